//! The binary interface of plugins: what `include/zepto_plugin.h` declares, for both targets.
//!
//! The header is the contract and is written by hand, for no generator makes its X-macros; a test
//! compares every size, offset, constant and function with what stands here.

mod constants;
mod functions;
mod layout;
mod messages;
mod status;

pub use constants::*;
pub use functions::{FUNCTIONS, Function, IMPORT_MODULE, IMPORT_MODULE_PREFIX, Value};
pub use layout::{Field, Layout};
pub use messages::{
    Event, HttpRequest, HttpResponse, KeyValue, LAYOUTS, List, Move, Msg, Node, NodeLoad, Nodes,
    Open, Partition, Plan, PlanRequest, PluginInfo, Snap, Span, UdpDatagram,
};
pub use status::PluginStatus;
