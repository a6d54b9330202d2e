//! Secrets that the host fills into requests. The plugin knows their names, never their bytes.

use super::http::{Origin, Target};
use core::fmt;
use core::str::FromStr;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use zepto_core::limits::PLUGIN_SECRET_BYTES_MAX;

/// One secret: a file, read anew for each request, for one origin only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretGrant {
    /// What the plugin calls it.
    pub name: String,
    /// The only origin that it is sent to.
    pub origin: Origin,
    path: PathBuf,
}

impl SecretGrant {
    /// The secret, without white space around it.
    ///
    /// # Errors
    /// When it cannot be read, is too long, or is no text that fits into a header.
    pub fn read(&self) -> Result<String, String> {
        let failed =
            |text: String| format!("secret {:?}: {}: {text}", self.name, self.path.display());
        let file = File::open(&self.path).map_err(|error| failed(error.to_string()))?;
        let mut text = String::new();
        let mut limited = file.take(PLUGIN_SECRET_BYTES_MAX + 1);
        limited.read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > PLUGIN_SECRET_BYTES_MAX {
            return Err(failed(format!("more than {PLUGIN_SECRET_BYTES_MAX} bytes")));
        }
        let text = text.trim();
        if text.is_empty() || text.contains(|c: char| c.is_control() || !c.is_ascii()) {
            return Err(failed("empty, or not one line of ASCII".into()));
        }
        Ok(text.to_owned())
    }
}

impl FromStr for SecretGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("grant secret={text}: {why}; write secret=NAME=file:PATH@https://host:443")
        };
        let (name, rest) = text.split_once('=').ok_or_else(|| wrong("no name"))?;
        let rest = rest.strip_prefix("file:").ok_or_else(|| wrong("a secret is a file"))?;
        let (path, url) = rest.rsplit_once('@').ok_or_else(|| wrong("no origin"))?;
        let target: Target = url.parse().map_err(|error: String| wrong(&error))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) || path.is_empty() {
            return Err(wrong("a name has letters, digits, - and _"));
        }
        if target.path_and_query != "/" {
            return Err(wrong("an origin has no path"));
        }
        Ok(Self { name: name.into(), origin: target.origin, path: path.into() })
    }
}

impl fmt::Display for SecretGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=file:{}@{}", self.name, self.path.display(), self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let grant: SecretGrant = format!("t=file:{}@https://a:1", path.display()).parse().unwrap();
        assert!(grant.read().unwrap_err().contains("No such file"));
        for (content, secret) in
            [("abc\n", Ok("abc")), (" a b ", Ok("a b")), ("", Err(())), ("a\r\nb", Err(()))]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(grant.read().as_deref().map_err(|_| ()), secret, "{content:?}");
        }
        std::fs::write(&path, "x".repeat(PLUGIN_SECRET_BYTES_MAX as usize + 1)).unwrap();
        assert!(grant.read().unwrap_err().contains("more than"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in [
            "",
            "t",
            "t=/x@https://a",
            "t=file:/x",
            "=file:/x@https://a",
            "t t=file:/x@https://a",
            "t=file:/x@https://a/path",
            "t=file:/x@a",
            "t=file:@https://a",
        ] {
            assert!(text.parse::<SecretGrant>().is_err(), "{text}");
        }
    }
}
