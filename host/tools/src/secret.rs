//! The flag for the cluster secret, the same for every command that talks to a cluster.
//!
//! The file is read once per command. A file that is given and cannot be used is an error: nobody
//! talks without a secret because of a typing mistake.

use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use zepto_client::ClusterSecret;

use crate::failure::Failure;

/// Where the cluster secret is.
#[derive(Args, Clone, Debug, Default)]
pub struct SecretArgs {
    /// File with the cluster secret: a line of 32 characters or more, two while a key is rotated
    #[arg(long, value_name = "FILE", env = "ZEPTO_CLUSTER_SECRET_FILE")]
    pub secret_file: Option<PathBuf>,
    #[arg(skip)]
    read: OnceLock<ClusterSecret>,
}

impl SecretArgs {
    /// The secret in the file, if one is named. The file is read at the first call.
    ///
    /// # Errors
    /// Why it is no secret.
    pub fn read(&self) -> Result<Option<&ClusterSecret>, Failure> {
        let Some(path) = &self.secret_file else { return Ok(None) };
        if self.read.get().is_none() {
            let secret = ClusterSecret::open(path);
            let secret = secret.map_err(|error| Failure::Usage(error.to_string()))?;
            return Ok(Some(self.read.get_or_init(|| secret)));
        }
        Ok(self.read.get())
    }
}
