//! As much of the NATS text protocol as the peer's producers need.

use super::wire::{Link, line, number};
use crate::failure::{Failure, Result, fail, go_on};
use std::time::{Duration, Instant};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection to one server, with an inbox.
pub struct Connection {
    link: Link,
    inbox: String,
    asked: u64,
}

impl Connection {
    /// To a port of this machine; the name makes its inbox.
    pub fn open(port: u16, name: &str) -> Result<Self> {
        let mut link = Link::connect(port)?;
        let options = r#"{"verbose":false,"pedantic":false,"lang":"zepto-peers","version":"0"}"#;
        let hello = format!("CONNECT {options}\r\nSUB _INBOX.{name}.* 1\r\nPING\r\n");
        link.out().extend_from_slice(hello.as_bytes());
        link.answer(ANSWER_WITHIN, |link| {
            while let Some((text, length)) = line(link.unread()) {
                let (is_pong, is_error) = (text == b"PONG", text.starts_with(b"-ERR"));
                let text = String::from_utf8_lossy(text).into_owned();
                link.take(length);
                if is_error {
                    return fail(format!("NATS says {text}"));
                }
                if is_pong {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
        Ok(Self { link, inbox: format!("_INBOX.{name}."), asked: 0 })
    }

    /// Asks the JetStream API; an error that it answers is a failure.
    pub fn ask(&mut self, subject: &str, body: &str, within: Duration) -> Result<Vec<u8>> {
        self.asked += 1;
        let (inbox, asked) = (&self.inbox, self.asked);
        let request = format!("PUB {subject} {inbox}{asked} {}\r\n{body}\r\n", body.len());
        self.link.out().extend_from_slice(request.as_bytes());
        let until = Instant::now() + within;
        loop {
            let mut answer = None;
            while answer.is_none()
                && self.take(|subject, body| {
                    // An answer that came too late for its question is passed over.
                    if last_token(subject) == Some(asked) {
                        answer = Some(body.to_vec());
                    }
                    Ok(())
                })?
            {}
            match answer {
                Some(answer) if contains(&answer, b"\"error\"") => {
                    return fail(format!("JetStream says {}", String::from_utf8_lossy(&answer)));
                }
                Some(answer) => return Ok(answer),
                None if Instant::now() > until => {
                    return fail("JetStream does not answer");
                }
                None => {}
            }
            if !self.link.pump()? {
                go_on()?;
                self.link.wait(Duration::from_millis(20))?;
            }
        }
    }

    /// What is to be written, waited for and read.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Takes one protocol message, once it is whole; what was delivered goes to `deliver` as its
    /// subject and its body.
    pub fn take(&mut self, deliver: impl FnOnce(&[u8], &[u8]) -> Result<()>) -> Result<bool> {
        let bytes = self.link.unread();
        let Some((text, length)) = line(bytes) else { return Ok(false) };
        let Some(words) = text.strip_prefix(b"MSG ") else {
            let (is_ping, is_error) = (text == b"PING", text.starts_with(b"-ERR"));
            let said = is_error.then(|| String::from_utf8_lossy(text).into_owned());
            self.link.take(length);
            if is_ping {
                self.link.out().extend_from_slice(b"PONG\r\n");
            }
            return said.map_or(Ok(true), |said| Err(Failure(format!("NATS says {said}"))));
        };
        let mut words = words.split(|byte| *byte == b' ');
        let (subject, size) = (words.next(), words.next_back().and_then(number));
        let (Some(subject), Some(size)) = (subject, size) else {
            return fail("a message of NATS that makes no sense");
        };
        let end = length + size as usize;
        if bytes.len() < end + 2 {
            return Ok(false);
        }
        deliver(subject, &bytes[length..end])?;
        self.link.take(end + 2);
        Ok(true)
    }
}

/// Writes a number in decimal, without allocating.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let (mut rest, mut first) = (number, digits.len());
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// The number at the end of a subject.
pub fn last_token(subject: &[u8]) -> Option<u64> {
    number(subject.rsplit(|byte| *byte == b'.').next()?)
}

/// Whether some bytes are among others.
pub fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_reply_subject_comes_back() {
        for tick in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut subject = b"_INBOX.p0.".to_vec();
            push_number(&mut subject, tick);
            assert_eq!(last_token(&subject), Some(tick));
        }
        assert_eq!(last_token(b"_INBOX.p0.x"), None);
    }
}
