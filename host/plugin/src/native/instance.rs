//! One instance of a native plugin. It cannot be interrupted: who waits for it watches the clock.

use super::current::lend;
use super::library::{Library, register, unregister};
use crate::context::{Context, Phase};
use core::ffi::c_void;
use std::sync::Arc;

/// An instance of a native plugin.
pub struct NativeInstance {
    library: Library,
    /// Lent to the thread while a call runs.
    context: Option<Box<Context>>,
    /// Kept for the time when the context is lent, which nobody sees.
    handle: u64,
    plugin: i64,
    /// 8-aligned, as messages are.
    inbox: Vec<u64>,
}

impl NativeInstance {
    /// An instance that is not open yet.
    pub fn new(library: &Library, context: Context) -> Self {
        let handle = context.handle();
        register(handle, Arc::clone(&context.setting().waker));
        let context = Some(Box::new(context));
        Self { library: library.clone(), context, handle, plugin: -1, inbox: Vec::new() }
    }

    /// The host's side of it.
    ///
    /// # Panics
    /// Never: the context is away only while a call runs, which borrows the instance.
    pub fn context(&mut self) -> &mut Context {
        self.context.as_deref_mut().expect("no call runs")
    }

    /// `open`; the plugin's handle, or its status.
    pub fn open(&mut self, message: &[u8]) -> i64 {
        let (open, handle) = (self.library.open, self.handle);
        self.plugin = self.call(Phase::Working, message, |at, len| {
            // SAFETY: the function is that of the header, and the library is open for good; the
            // message is readable for the length of the call.
            unsafe { open(handle, at, len) }
        });
        self.plugin
    }

    /// `event`; its status.
    pub fn event(&mut self, message: &[u8]) -> i32 {
        let (event, plugin) = (self.library.event, self.plugin);
        self.call(Phase::Working, message, |at, len| {
            // SAFETY: as for `open`.
            unsafe { event(plugin, at, len) }
        })
    }

    /// `close`; its status.
    pub fn close(&mut self) -> i32 {
        let (close, plugin) = (self.library.close, self.plugin);
        self.call(Phase::Closing, &[], |_, _| {
            // SAFETY: as for `open`; it gets no message.
            unsafe { close(plugin) }
        })
    }

    fn call<R>(
        &mut self,
        phase: Phase,
        message: &[u8],
        call: impl FnOnce(*const c_void, u32) -> R,
    ) -> R {
        self.inbox.clear();
        let words = message.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        self.inbox.extend(words);
        let at = self.inbox.as_ptr().cast::<c_void>();
        self.context().set_phase(phase);
        let result = lend(&mut self.context, || call(at, message.len() as u32));
        self.context().set_phase(Phase::Idle);
        result
    }
}

impl Drop for NativeInstance {
    fn drop(&mut self) {
        unregister(self.handle);
    }
}
