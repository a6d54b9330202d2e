//! Sixteen threads that connect, close and send at random: every answer belongs to its request,
//! and nothing is left over.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::atomic::Ordering;

use common::*;
use zepto_core::hash::mix;
use zepto_rpc::{CallError, Config, Peers};

const THREADS: u64 = 16;
const STEPS: u64 = 300;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One thread's life; returns how many answers it got.
async fn wander(thread: u64, address: &str, peers: &Peers) -> usize {
    let mut own = None;
    let mut answers = 0;
    for step in 0..STEPS {
        let random = mix(thread << 32 | step);
        // Its own bytes, so that an answer over a mixed-up descriptor would be seen.
        let mut request = vec![ECHO];
        request.extend_from_slice(&random.to_le_bytes());
        request.resize(9 + (random >> 8) as usize % 3000, thread as u8);
        match random % 8 {
            0 => own = Some(connect(address, Config::default()).await),
            1 => own = None,
            2 => peers.forget(address),
            // Given up at any moment, also while it is written.
            3 => {
                let call = peers.call(address, request, LONG);
                drop(tokio::time::timeout(ms(random % 2), call).await);
            }
            4 | 5 => {
                if let Some(connection) = &own {
                    assert_eq!(connection.call(request.clone(), LONG).await, Ok(request));
                    answers += 1;
                }
            }
            _ => match peers.call(address, request.clone(), LONG).await {
                Ok(answer) => {
                    assert_eq!(answer, request);
                    answers += 1;
                }
                // Another thread forgot the peer while this one used its connection.
                Err(CallError::NotSent(_)) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
    answers
}

#[test]
fn sixteen_threads_that_connect_close_and_send_mix_nothing_up_and_leave_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(4).enable_all().build().unwrap();
    let before = descriptors();
    let node = runtime.block_on(Node::start(Config::default()));
    let peers = Peers::new(Config::default(), 3, hello);
    let answers: usize = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| {
            let (handle, address, peers) = (runtime.handle(), &node.address, &peers);
            scope.spawn(move || handle.block_on(within(wander(thread, address, peers))))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(answers > THREADS as usize * 50, "{answers} answers");
    drop(peers);
    let handler = std::sync::Arc::clone(&node.handler);
    runtime.block_on(until("every connection is over", || {
        handler.closed.load(Ordering::SeqCst) == handler.greeted.load(Ordering::SeqCst)
    }));
    assert!(runtime.block_on(node.stopped()).is_complete());
    runtime.block_on(until("no descriptor is left", || descriptors() <= before));
    drop(runtime);
}
