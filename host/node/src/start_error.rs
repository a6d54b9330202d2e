//! Why a node did not start.

use crate::config::ConfigError;
use std::net::SocketAddr;
use zepto_control::datadir::DataDirError;
use zepto_rpc::{BindError, SecretError};

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The cluster secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The sockets.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An address that others can reach, without a secret.
    #[error(
        "{0} can be reached from other machines and there is no cluster secret; give --secret-file \
         or ZEPTO_CLUSTER_SECRET_FILE, listen on 127.0.0.1 or [::1], or give --insecure-bind"
    )]
    Insecure(SocketAddr),
    /// A transport that asks nobody who they are, beyond this machine.
    #[error(
        "UCX neither authenticates nor encrypts what goes over it, and {0} can be reached from \
         other machines; listen on 127.0.0.1 or [::1], choose --transport shm, or give \
         --insecure-bind where the network is yours alone"
    )]
    InsecureTransport(SocketAddr),
    /// An address of the admin HTTP that others can reach: it asks nobody who they are.
    #[error(
        "the admin HTTP at {0} could be read from other machines without any authentication; give \
         it 127.0.0.1 or [::1], or --insecure-bind"
    )]
    InsecureAdmin(SocketAddr),
    /// The admin HTTP.
    #[error("cannot serve the admin HTTP at {address}: {source}; choose another --admin, or off")]
    Admin {
        /// Where it was to listen.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An address that nobody can connect to.
    #[error("others cannot connect to {0}; give --advertise with the address they should use")]
    Advertise(SocketAddr),
    /// The control log.
    #[error("control log: {0}")]
    Log(String),
    /// No seed answered in time, or none led to the log. Worth trying again.
    #[error("cannot join: {0}")]
    Join(String),
    /// The cluster does not take this node: its id is in use, or it belongs to another cluster.
    #[error("cannot join: {0}")]
    Refused(String),
    /// The transport.
    #[error("{0}")]
    Transport(String),
    /// A plugin that the node is configured with.
    #[error("{0}")]
    Plugin(String),
    /// The operating system.
    #[error("cannot start {what}: {source}")]
    System {
        /// What was being started.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

impl StartError {
    pub(crate) fn system(what: &'static str, source: std::io::Error) -> Self {
        Self::System { what, source }
    }
}
