//! The text of `identity.toml`: version, node, cluster and incarnation.
//!
//! The version is read before anything else, so that a file of a later version is named as such
//! and not called damaged. Unknown keys are damage.

use serde::Deserialize;

/// The version of the directory that this build writes, and the only one it takes.
pub(super) const VERSION: u64 = 1;
/// What TOML's integers can hold.
pub(super) const INCARNATION_MAX: u64 = i64::MAX as u64;

/// Who the directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub node: String,
    pub cluster: Option<u128>,
    pub incarnation: u64,
}

/// What is wrong with an identity file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not UTF-8.
    #[error("the identity file is not text")]
    NotText,
    /// Much larger than any identity.
    #[error("the identity file is too large")]
    TooLarge,
    /// Not the TOML that was written.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from one.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A cluster id that is none.
    #[error("line {line}: a cluster id is 32 hexadecimal digits and not zero")]
    Cluster {
        /// The line, from one.
        line: usize,
    },
    /// Written by another version.
    #[error("the identity file has version {0}")]
    Version(u64),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(rename = "version")]
    _version: u64,
    node: String,
    cluster: Option<toml::Spanned<String>>,
    incarnation: u64,
}

impl Identity {
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityError> {
        let text = str::from_utf8(bytes).map_err(|_| IdentityError::NotText)?;
        let syntax = |error: toml::de::Error| IdentityError::Syntax {
            line: line_of(text, error.span()),
            message: error.message().to_owned(),
        };
        let Versioned { version } = toml::from_str(text).map_err(syntax)?;
        if version != VERSION {
            return Err(IdentityError::Version(version));
        }
        let found: Text = toml::from_str(text).map_err(syntax)?;
        let cluster = found.cluster.map(|cluster| {
            let error = IdentityError::Cluster { line: line_of(text, Some(cluster.span())) };
            parse_cluster(cluster.get_ref()).ok_or(error)
        });
        let (node, incarnation) = (found.node, found.incarnation);
        Ok(Self { node, cluster: cluster.transpose()?, incarnation })
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        // The node's name has no character that a basic string would have to escape but these.
        let node = self.node.replace('\\', "\\\\").replace('"', "\\\"");
        let cluster = self.cluster.map_or(String::new(), |id| format!("cluster = \"{id:032x}\"\n"));
        let incarnation = self.incarnation;
        format!(
            "# Written by zepto-host. Do not edit.\nversion = {VERSION}\nnode = \"{node}\"\n\
             {cluster}incarnation = {incarnation}\n"
        )
    }
}

fn parse_cluster(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = digits.then(|| u128::from_str_radix(text, 16).ok())??;
    (id != 0).then_some(id)
}

/// The line, from one, in which a span begins.
fn line_of(text: &str, span: Option<core::ops::Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count()
}
