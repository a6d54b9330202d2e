//! How calls between host and plugin end.

use crate::status::codes;

codes! {
    /// Result of a call between host and plugin: zero, or a negative number (`ZP_E_*`).
    PluginStatus: i32 {
        /// It happened.
        Ok = 0, "ok";
        /// A bad argument, or a malformed message.
        Invalid = -1, "invalid";
        /// Function, event or flag that the other side does not know.
        Unsupported = -2, "unsupported";
        /// The capability, or this use of it, is not granted.
        Denied = -3, "not granted";
        /// No such thing.
        NotFound = -4, "not found";
        /// Over a limit, or the buffer is too small.
        TooBig = -5, "too big";
        /// No memory for it.
        NoMemory = -6, "out of memory";
        /// A queue or rate limit; try again after a timer.
        Busy = -7, "busy";
        /// The deadline passed.
        Timeout = -8, "deadline passed";
        /// Given up.
        Canceled = -9, "canceled";
        /// Not allowed now: the host was called outside a handler.
        BadState = -10, "not allowed now";
        /// A stale or foreign handle, token or socket.
        BadHandle = -11, "stale or foreign handle";
        /// A pointer outside the plugin's memory.
        BadAddress = -12, "address outside the plugin's memory";
        /// The operating system, or the network, failed.
        Io = -13, "input/output error";
        /// A defect.
        Internal = -14, "internal error";
        /// A panic was caught at the boundary.
        Panic = -15, "panic";
        /// Versions do not fit.
        Version = -16, "version mismatch";
        /// Stale revision or index, or two entries with one name.
        Conflict = -17, "conflict";
    }
}
