//! New ticks of a series as they come, given to a callback.

use crate::client::{of, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{clear, hand_out};
use crate::listener::{Callee, Listener, Place, free};
use crate::query::{Question, zepto_query};
use crate::status::*;
use crate::tick::zepto_tick;
use crate::watch::zepto_drop_fn;
use ::zepto_client::message::{AnswerBody, Ask, Of, Part, Query};
use ::zepto_client::{Client, ClientError};
use core::ffi::c_void;
use core::time::Duration;
use std::sync::Arc;
use zepto_core::Epoch;
use zepto_core::slot::tick_of;
use zepto_store::query::TimeRange;

/// Time between two looks for new ticks when there were none.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The same while the owner cannot be asked.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Called with new ticks, in the order in which their owner took them, as soon as they are
/// readable: in as many nodes as the cluster declares copies. They are the library's, during the
/// call. It must not throw. Functions that are not [callback-safe] refuse to be called from it.
pub type zepto_ticks_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, ticks: *const zepto_tick, count: usize)>;

/// A subscription. Free it with `zepto_subscription_free`.
pub struct zepto_subscription(Listener<Take>);

type Take = unsafe extern "C" fn(*mut c_void, *const zepto_tick, usize);

/// Has `take` called with every tick of a series that comes from now on, of every kind: from one of
/// the library's threads, never two calls at once. Of `query` only symbol, table, limit (most ticks
/// of one call) and timeout count. A symbol that is new is issued now. Whoever takes slowly gets
/// them later; what retention drops before is not given. After a loss of all copies it goes on with
/// what comes then. `user_drop`, which may be NULL, is called after the last call. On failure
/// nothing is taken, and it is not called. [any thread] [not callback-safe]
///
/// # Safety
/// `client` must be of this library, `query` readable, `take` callable with `user` from any thread,
/// `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_subscribe(
    client: *const zepto_client,
    query: *const zepto_query,
    take: zepto_ticks_fn,
    user: *mut c_void,
    user_drop: zepto_drop_fn,
    out: *mut *mut zepto_subscription,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        let take = take.ok_or_else(|| Failure::null("take"))?;
        // SAFETY: the caller's promise.
        let question = unsafe { Question::of(query) }?;
        let shared = Arc::clone(&client.shared);
        let names = [question.symbol.clone()];
        shared.wait(shared.client.intern(&names, question.within))??;
        // The first look says where new ones begin.
        let end = Begin { life: None, from: u64::MAX };
        let (_, begin) = shared.wait(look(&shared.client, &question, end))??;
        let callee = Callee { function: take, user, dropped: user_drop };
        let listener = Listener::new(Arc::clone(&shared), callee);
        shared.spawn(follow(shared.client.clone(), question, begin, listener.place()));
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_subscription(listener)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { of(client, error, body) }
}

/// Where new ticks begin.
#[derive(Clone, Copy)]
struct Begin {
    /// In which life of their partition.
    life: Option<Epoch>,
    /// Its sequence.
    from: u64,
}

/// New ticks, and where the next begin.
async fn look(
    client: &Client,
    question: &Question,
    begin: Begin,
) -> Result<(Vec<zepto_tick>, Begin), ClientError> {
    let Begin { life, from } = begin;
    let of = Of::Since { life, from, limit: question.limit };
    let (table, symbol) = (question.table, question.symbol.clone());
    let ask = Ask::Series { table, symbol, range: TimeRange::ALL, of };
    let answer = client.query(Query { ask, partial: false }, question.within).await?;
    match answer.body {
        AnswerBody::Series(Some(Part::Since { ticks, life, next })) => {
            let ticks = ticks.iter().map(|words| zepto_tick::of(&tick_of(words)));
            Ok((ticks.collect(), Begin { life: Some(life), from: next }))
        }
        _ => Err(ClientError::Protocol("an answer to another question".into())),
    }
}

/// Gives every new tick until nobody wants them.
async fn follow(client: Client, question: Question, mut begin: Begin, place: Place<Take>) {
    loop {
        let looked = look(&client, &question, begin).await;
        let given = place.with(|callee| match looked {
            Ok((ticks, next)) => {
                begin = next;
                if ticks.is_empty() {
                    return Some(LOOK_EVERY);
                }
                // SAFETY: the function is the caller's, and so is what it is called with, until it
                // is dropped; the ticks are readable during the call.
                callee.call(|take, user| unsafe { take(user, ticks.as_ptr(), ticks.len()) });
                None
            }
            // Its owner is gone, or the partition is on its way: the next look finds it.
            Err(_) => Some(TRY_EVERY),
        });
        match given {
            None => return,
            Some(Some(pause)) => tokio::time::sleep(pause).await,
            Some(None) => tokio::task::yield_now().await,
        }
    }
}

/// Ends it, and frees it; NULL is fine. No call runs when it returns, and `user_drop` has been
/// called. From within a callback it is refused, and nothing is freed.
/// [any thread] [not callback-safe]
///
/// # Safety
/// `subscription` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_subscription_free(
    subscription: *mut zepto_subscription,
) -> zepto_status {
    // SAFETY: the caller's promise.
    unsafe { free(subscription, |subscription| subscription.0) }
}
