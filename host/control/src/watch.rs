//! A value that is watched, and whose waiters wake in the order in which they began to wait.
//!
//! tokio's own wakes them in an order that no seed decides, which would make two runs of one
//! simulation different.

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};
use openraft::async_runtime::watch as raft;
use openraft::{OptionalSend, OptionalSync};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// The one that changes the value. When the last clone is dropped, all who wait are told.
#[derive(Debug)]
pub struct Sender<T>(Arc<Slot<T>>);

/// One that watches.
#[derive(Debug)]
pub struct Receiver<T> {
    slot: Arc<Slot<T>>,
    seen: u64,
}

/// Nobody is left who could change the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// openraft's name for channels of this kind.
#[derive(Debug)]
pub struct Watch;

#[derive(Debug)]
struct Slot<T> {
    value: RwLock<T>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Grows after every change, so who sees it grown finds the value changed.
    version: u64,
    senders: usize,
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// A place in the queue of those who wait.
struct Place<'a, T> {
    slot: &'a Slot<T>,
    number: Option<u64>,
}

/// A watched value and its first watcher.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let waiting = Waiting { version: 0, senders: 1, next: 0, wakers: BTreeMap::new() };
    let slot = Arc::new(Slot { value: RwLock::new(value), waiting: Mutex::new(waiting) });
    (Sender(Arc::clone(&slot)), Receiver { slot, seen: 0 })
}

impl<T> Slot<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn modify(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = modify(&mut self.value.write().unwrap_or_else(PoisonError::into_inner));
        if modified {
            self.wake(|waiting| waiting.version += 1);
        }
        modified
    }

    fn wake(&self, change: impl FnOnce(&mut Waiting)) {
        let wakers = {
            let mut waiting = self.waiting();
            change(&mut waiting);
            core::mem::take(&mut waiting.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }
}

impl<T> Sender<T> {
    /// Puts another value in place.
    pub fn replace(&self, value: T) {
        self.0.modify(|old| {
            *old = value;
            true
        });
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.waiting().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.waiting().senders -= 1;
        if self.0.waiting().senders == 0 {
            self.0.wake(|_| {});
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// The value of now.
    pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
        self.slot.read()
    }

    /// Waits until the value is another than the one last waited for.
    ///
    /// # Errors
    /// It will not be: nobody is left to change it.
    pub async fn wait(&mut self) -> Result<(), Closed> {
        let mut place = Place { slot: &self.slot, number: None };
        let seen = poll_fn(|context| place.poll(self.seen, context)).await?;
        drop(place);
        self.seen = seen;
        Ok(())
    }
}

impl<T> Place<'_, T> {
    fn poll(&mut self, seen: u64, context: &Context<'_>) -> Poll<Result<u64, Closed>> {
        let mut waiting = self.slot.waiting();
        if waiting.version > seen {
            return Poll::Ready(Ok(waiting.version));
        }
        if waiting.senders == 0 {
            return Poll::Ready(Err(Closed));
        }
        let number = *self.number.get_or_insert(waiting.next);
        waiting.next = waiting.next.max(number + 1);
        waiting.wakers.insert(number, context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.slot.waiting().wakers.remove(&number);
        }
    }
}

impl raft::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        channel(init)
    }
}

impl<T: OptionalSend + OptionalSync> raft::WatchSender<Watch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), raft::SendError<T>> {
        self.replace(value);
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        self.0.modify(modify)
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { slot: Arc::clone(&self.0), seen: self.0.waiting().version }
    }
}

impl<T: OptionalSend + OptionalSync> raft::WatchReceiver<Watch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), raft::RecvError> {
        self.wait().await.map_err(|Closed| raft::RecvError(()))
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.borrow()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        self.seen = self.slot.waiting().version;
        self.slot.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn waiters_wake_in_the_order_in_which_they_began() {
        let order = Arc::new(Mutex::new(Vec::new()));
        block_on(tokio::task::LocalSet::new().run_until(async {
            let (sender, receiver) = channel(0);
            let tasks: Vec<_> = (0..50)
                .map(|number| {
                    let (mut receiver, order) = (receiver.clone(), Arc::clone(&order));
                    tokio::task::spawn_local(async move {
                        receiver.wait().await.unwrap();
                        order.lock().unwrap().push(number);
                        receiver.wait().await.unwrap_err();
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            sender.replace(1);
            tokio::task::yield_now().await;
            drop(sender);
            for task in tasks {
                task.await.unwrap();
            }
            assert!(receiver.slot.waiting().wakers.is_empty());
            assert_eq!(*receiver.borrow(), 1);
        }));
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        block_on(async {
            let (_sender, mut receiver) = channel(0);
            let short = core::time::Duration::from_millis(1);
            tokio::time::timeout(short, receiver.wait()).await.unwrap_err();
            assert!(receiver.slot.waiting().wakers.is_empty());
        });
    }
}
