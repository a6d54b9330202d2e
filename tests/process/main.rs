//! `zepto-host` as its users run it: real processes, real files, real signals, bad input.
//!
//! Everything is seen from outside: exit codes, standard output, standard error, what is left on
//! the machine. Lacks timing: a test says what happens, and waits long enough for a slow machine.

mod answers;
mod capi;
mod deaths;
mod demo;
mod failover;
mod kubernetes;
mod load;
mod operator;
mod plugins;
mod refusals;
mod restarts;
mod secret;
mod tools;
mod ucx;
