//! Whom to ask for the cluster: those in the configuration, and those that discovery knows of.

use std::sync::Arc;
use tokio::sync::watch;
use zepto_plugin::vet::Discovered;

type Known = watch::Receiver<Arc<Vec<Discovered>>>;

/// Addresses of other nodes.
pub(crate) struct Seeds {
    configured: Vec<String>,
    discovered: Option<Known>,
    own: [String; 2],
}

impl Seeds {
    /// The configured ones, and those that a plugin finds; `own` are this node's own addresses, for
    /// a list may be the same for all nodes.
    pub fn new(configured: Vec<String>, discovered: Option<Known>, own: [String; 2]) -> Self {
        Self { configured, discovered, own }
    }

    /// Whether more may come.
    pub fn is_discovering(&self) -> bool {
        self.discovered.is_some()
    }

    /// The configured ones, this node apart.
    pub fn configured(&self) -> Vec<String> {
        self.configured.iter().filter(|seed| !self.own.contains(seed)).cloned().collect()
    }

    /// Id and address of those that discovery knows of now, this node apart.
    pub fn discovered(&self) -> Vec<(String, String)> {
        let Some(discovered) = &self.discovered else { return Vec::new() };
        let nodes = discovered.borrow();
        let named = nodes.iter().map(|node| (node.id.clone(), node.address()));
        named.filter(|(_, address)| !self.own.contains(address)).collect()
    }

    /// All of them, as of now.
    pub fn addresses(&self) -> Vec<String> {
        let mut all = self.configured();
        for (_, address) in self.discovered() {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}
