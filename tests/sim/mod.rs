pub mod rng;
pub mod trace;
pub mod transport;
