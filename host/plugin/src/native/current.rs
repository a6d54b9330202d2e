//! Which instance's call runs on this thread: whatever a plugin calls belongs to it.

use crate::context::Context;
use core::cell::RefCell;
use zepto_abi::plugin::PluginStatus;

thread_local! {
    static CURRENT: RefCell<Option<Box<Context>>> = const { RefCell::new(None) };
}

/// Runs a call of a plugin's, during which it may call the host.
pub(super) fn lend<R>(context: &mut Option<Box<Context>>, call: impl FnOnce() -> R) -> R {
    let before = CURRENT.with(|current| current.replace(context.take()));
    let result = call();
    *context = CURRENT.with(|current| current.replace(before));
    result
}

/// Does something with the instance whose call runs here, if the plugin names it.
pub(super) fn with(handle: u64, call: impl FnOnce(&mut Context) -> i32) -> i32 {
    CURRENT.with(|current| {
        // A call from within a call of the host's would be one from another plugin's callback,
        // and there are none.
        let Ok(mut current) = current.try_borrow_mut() else {
            return PluginStatus::BadState.code();
        };
        let Some(context) = current.as_deref_mut() else { return PluginStatus::BadState.code() };
        if context.handle() != handle {
            return context.refuse_handle().code();
        }
        call(context)
    })
}
