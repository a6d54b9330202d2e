//! The host's functions over slices, the same for both targets.

/// `zp_log`.
pub fn log(ctx: u64, level: u32, text: &[u8]) -> i32 {
    host!(log(ctx, level, text.as_ptr(), text.len() as u32))
}

/// `zp_set_error`.
pub fn set_error(ctx: u64, code: i32, text: &[u8]) -> i32 {
    host!(set_error(ctx, code, text.as_ptr(), text.len() as u32))
}

/// `zp_info`.
pub fn info(ctx: u64, what: u32, buffer: &mut [u8], len: &mut u32) -> i32 {
    host!(info(ctx, what, buffer.as_mut_ptr(), buffer.len() as u32, len))
}

/// `zp_clock`.
pub fn clock(ctx: u64, id: u32, out: &mut u64) -> i32 {
    host!(clock(ctx, id, out))
}

/// `zp_random`.
pub fn random(ctx: u64, buffer: &mut [u8]) -> i32 {
    host!(random(ctx, buffer.as_mut_ptr(), buffer.len() as u32))
}

/// `zp_timer`.
pub fn timer(ctx: u64, id: u64, delay_ns: u64, period_ns: u64) -> i32 {
    host!(timer(ctx, id, delay_ns, period_ns))
}

/// `zp_cancel`.
pub fn cancel(ctx: u64, token: u64) -> i32 {
    host!(cancel(ctx, token))
}

/// `zp_emit`.
pub fn emit(ctx: u64, message: &[u8]) -> i32 {
    host!(emit(ctx, message.as_ptr(), message.len() as u32))
}

/// `zp_reply`.
pub fn reply(ctx: u64, token: u64, status: i32, bytes: &[u8]) -> i32 {
    host!(reply(ctx, token, status, bytes.as_ptr(), bytes.len() as u32))
}

/// `zp_http`.
pub fn http(ctx: u64, request: &[u8], token: &mut u64) -> i32 {
    host!(http(ctx, request.as_ptr(), request.len() as u32, token))
}

/// `zp_udp_bind`.
pub fn udp_bind(ctx: u64, address: &[u8], token: &mut u64) -> i32 {
    host!(udp_bind(ctx, address.as_ptr(), address.len() as u32, token))
}

/// `zp_udp_send`.
pub fn udp_send(ctx: u64, socket: u64, to: &[u8], bytes: &[u8]) -> i32 {
    let (to_n, n) = (to.len() as u32, bytes.len() as u32);
    host!(udp_send(ctx, socket, to.as_ptr(), to_n, bytes.as_ptr(), n))
}

/// `zp_kv_get`.
pub fn kv_get(ctx: u64, key: &[u8], buffer: &mut [u8], len: &mut u32) -> i32 {
    let (kn, capacity) = (key.len() as u32, buffer.len() as u32);
    host!(kv_get(ctx, key.as_ptr(), kn, buffer.as_mut_ptr(), capacity, len))
}

/// `zp_kv_put`.
pub fn kv_put(ctx: u64, key: &[u8], value: &[u8]) -> i32 {
    let (kn, vn) = (key.len() as u32, value.len() as u32);
    host!(kv_put(ctx, key.as_ptr(), kn, value.as_ptr(), vn))
}

/// `zp_kv_del`.
pub fn kv_del(ctx: u64, key: &[u8]) -> i32 {
    host!(kv_del(ctx, key.as_ptr(), key.len() as u32))
}

/// `zp_metric`.
pub fn metric(ctx: u64, kind: u32, name: &[u8], value: i64) -> i32 {
    host!(metric(ctx, kind, name.as_ptr(), name.len() as u32, value))
}
