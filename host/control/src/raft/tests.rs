//! What the log of several voters does, in one process.

mod crash;
mod fleet;
mod sim;
mod suite;
mod voters;
mod world;
