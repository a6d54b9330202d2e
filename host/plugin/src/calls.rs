//! The host's functions, once for both targets: addresses checked, bytes copied, the call made.
//!
//! A target gives its memory; everything else is the same, so both behave the same.

use crate::context::Context;
use zepto_abi::plugin::PluginStatus;

/// Gives a macro the list of the host's functions but `wake`: each with the arguments that follow
/// the plugin's handle. An `Address` is as wide as the target's; `wide!` makes 64 bits of it.
macro_rules! host_functions {
    ($then:ident) => {
        $then! {
            log(level: u32, p: Address, n: u32)
            set_error(status: i32, p: Address, n: u32)
            info(what: u32, buffer: Address, capacity: u32, length: Address)
            clock(id: u32, out: Address)
            random(buffer: Address, n: u32)
            timer(id: u64, delay_ns: u64, period_ns: u64)
            cancel(token: u64)
            emit(p: Address, n: u32)
            reply(token: u64, status: i32, p: Address, n: u32)
            http(p: Address, n: u32, out: Address)
            udp_bind(p: Address, n: u32, out: Address)
            udp_send(socket: u64, to: Address, to_n: u32, p: Address, n: u32)
            kv_get(k: Address, kn: u32, buffer: Address, capacity: u32, length: Address)
            kv_put(k: Address, kn: u32, v: Address, vn: u32)
            kv_del(k: Address, kn: u32)
            metric(kind: u32, p: Address, n: u32, value: i64)
        }
    };
}
pub(crate) use host_functions;

/// An argument as the functions here take it.
macro_rules! wide {
    (Address $arg:ident) => {
        $arg as u64
    };
    ($type:ident $arg:ident) => {
        $arg
    };
}
pub(crate) use wide;

/// The memory of a plugin, as its addresses name it.
pub trait Memory {
    /// A copy of `len` bytes from an address on; `None` when they are not all the plugin's.
    fn read(&self, address: u64, len: u32) -> Option<Vec<u8>>;

    /// Writes bytes at an address; `None` when they are not all the plugin's.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()>;
}

type Done = Result<(), PluginStatus>;

/// The status as the plugin gets it.
fn code(done: Done) -> i32 {
    done.err().unwrap_or(PluginStatus::Ok).code()
}

fn read(
    context: &mut Context,
    memory: &impl Memory,
    address: u64,
    len: u32,
) -> Result<Vec<u8>, PluginStatus> {
    if u64::from(len) > context.setting().limits.message.0 {
        return Err(context.refuse_size(len.into()));
    }
    memory.read(address, len).ok_or_else(|| context.refuse_address())
}

fn write(context: &mut Context, memory: &mut impl Memory, address: u64, bytes: &[u8]) -> Done {
    memory.write(address, bytes).ok_or_else(|| context.refuse_address())
}

/// Gives bytes into a buffer of the plugin: their number always, themselves if they fit.
fn give(
    context: &mut Context,
    memory: &mut impl Memory,
    bytes: &[u8],
    (buffer, capacity, length): (u64, u32, u64),
) -> Done {
    let len = u32::try_from(bytes.len()).map_err(|_| PluginStatus::TooBig)?;
    write(context, memory, length, &len.to_le_bytes())?;
    if len > capacity {
        return Err(PluginStatus::TooBig);
    }
    if bytes.is_empty() { Ok(()) } else { write(context, memory, buffer, bytes) }
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($context:ident, $memory:ident $(, $arg:ident: $type:ty)*)
        $body:block)*) => {$(
        $(#[$doc])*
        pub fn $name<M: Memory>(
            $context: &mut Context, $memory: &mut M $(, $arg: $type)*
        ) -> i32 {
            let call = move |$context: &mut Context, $memory: &mut M| -> Done { $body };
            code(call($context, $memory))
        }
    )*};
}

calls! {
    /// `zp_log`.
    log(context, memory, level: u32, p: u64, n: u32) {
        let bytes = read(context, memory, p, n)?;
        context.log(level, &bytes)
    }
    /// `zp_set_error`.
    set_error(context, memory, status: i32, p: u64, n: u32) {
        let bytes = read(context, memory, p, n)?;
        context.set_error(status, &bytes)
    }
    /// `zp_info`.
    info(context, memory, what: u32, buffer: u64, capacity: u32, length: u64) {
        let bytes = context.info(what)?;
        give(context, memory, &bytes, (buffer, capacity, length))
    }
    /// `zp_clock`.
    clock(context, memory, id: u32, out: u64) {
        let ns = context.clock(id)?;
        write(context, memory, out, &ns.to_le_bytes())
    }
    /// `zp_random`.
    random(context, memory, buffer: u64, n: u32) {
        let bytes = context.random(n as usize)?;
        write(context, memory, buffer, &bytes)
    }
    /// `zp_timer`.
    timer(context, _memory, id: u64, delay_ns: u64, period_ns: u64) {
        context.timer(id, delay_ns, period_ns)
    }
    /// `zp_cancel`.
    cancel(context, _memory, token: u64) {
        context.cancel(token)
    }
    /// `zp_emit`.
    emit(context, memory, p: u64, n: u32) {
        let bytes = read(context, memory, p, n)?;
        context.emit(bytes)
    }
    /// `zp_reply`.
    reply(context, memory, token: u64, status: i32, p: u64, n: u32) {
        let bytes = read(context, memory, p, n)?;
        context.reply(token, status, bytes)
    }
    /// `zp_http`.
    http(context, memory, p: u64, n: u32, out: u64) {
        let bytes = read(context, memory, p, n)?;
        // Before the request is made: a token that cannot be told is a request nobody can name.
        write(context, memory, out, &0u64.to_le_bytes())?;
        let token = context.http(&bytes)?;
        write(context, memory, out, &token.to_le_bytes())
    }
    /// `zp_udp_bind`.
    udp_bind(context, memory, p: u64, n: u32, out: u64) {
        let address = read(context, memory, p, n)?;
        write(context, memory, out, &0u64.to_le_bytes())?;
        let token = context.udp_bind(&address)?;
        write(context, memory, out, &token.to_le_bytes())
    }
    /// `zp_udp_send`.
    udp_send(context, memory, socket: u64, to: u64, to_n: u32, p: u64, n: u32) {
        let to = read(context, memory, to, to_n)?;
        let bytes = read(context, memory, p, n)?;
        context.udp_send(socket, &to, &bytes)
    }
    /// `zp_kv_get`.
    kv_get(context, memory, k: u64, kn: u32, buffer: u64, capacity: u32, length: u64) {
        let key = read(context, memory, k, kn)?;
        let value = context.kv_get(&key)?;
        give(context, memory, &value, (buffer, capacity, length))
    }
    /// `zp_kv_put`.
    kv_put(context, memory, k: u64, kn: u32, v: u64, vn: u32) {
        let key = read(context, memory, k, kn)?;
        let value = read(context, memory, v, vn)?;
        context.kv_put(&key, &value)
    }
    /// `zp_kv_del`.
    kv_del(context, memory, k: u64, kn: u32) {
        let key = read(context, memory, k, kn)?;
        context.kv_del(&key)
    }
    /// `zp_metric`.
    metric(context, memory, kind: u32, p: u64, n: u32, value: i64) {
        let name = read(context, memory, p, n)?;
        context.metric(kind, &name, value)
    }
    /// `zp_wake`.
    wake(context, _memory) {
        context.wake();
        Ok(())
    }
}
