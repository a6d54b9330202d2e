//! Which of a service's ports the nodes listen at.

use crate::api::{self, text};
use crate::config::Port;

/// The name that is looked for when none is configured.
const USUAL_NAME: &str = "rpc";
/// The port of a service that says nothing of ports.
const USUAL: u16 = 9000;

/// The configured one; else the one that is called `rpc`, else the only one, else 9000. Nothing
/// when there is no port of the configured name.
pub fn choose(wanted: Option<&Port>, ports: &[api::Port<'_>]) -> Option<u16> {
    match wanted {
        Some(Port::Number(number)) => Some(*number),
        Some(Port::Name(name)) => named(ports, name),
        None => named(ports, USUAL_NAME).or_else(|| only(ports)).or(Some(USUAL)),
    }
}

fn named(ports: &[api::Port<'_>], name: &str) -> Option<u16> {
    ports.iter().filter(|port| text(&port.name) == name).find_map(number)
}

/// The only number, which may stand there once for TCP and once for UDP.
fn only(ports: &[api::Port<'_>]) -> Option<u16> {
    let mut numbers = ports.iter().filter_map(number);
    let first = numbers.next()?;
    numbers.all(|number| number == first).then_some(first)
}

fn number(port: &api::Port<'_>) -> Option<u16> {
    port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(wanted: Option<Port>, json: &str) -> Option<u16> {
        let ports: Vec<api::Port<'_>> = serde_json::from_str(json).unwrap();
        choose(wanted.as_ref(), &ports)
    }

    #[test]
    fn the_port_is_the_configured_the_usual_or_the_only_one() {
        let two = r#"[{"name":"admin","port":9900},{"name":"rpc","port":9000,"protocol":"TCP"}]"#;
        let twice = r#"[{"name":"tcp","port":7000},{"name":"udp","port":7000}]"#;
        let other = r#"[{"name":"a","port":1},{"name":"b","port":2}]"#;
        assert_eq!(of(None, two), Some(9000), "by its name");
        assert_eq!(of(None, twice), Some(7000), "the only number");
        assert_eq!(of(None, r#"[{"name":"","port":7000}]"#), Some(7000));
        assert_eq!(of(None, other), Some(9000), "nobody knows which");
        assert_eq!(of(None, "[]"), Some(9000));
        assert_eq!(of(Some(Port::Number(5)), two), Some(5));
        assert_eq!(of(Some(Port::Name("admin".into())), two), Some(9900));
        assert_eq!(of(Some(Port::Name("none".into())), two), None);
    }

    #[test]
    fn numbers_that_are_no_ports_are_none() {
        for port in ["0", "-1", "65536", "null", "9223372036854775807"] {
            let json = format!(r#"[{{"name":"rpc","port":{port}}}]"#);
            assert_eq!(of(Some(Port::Name("rpc".into())), &json), None, "{port}");
        }
    }
}
