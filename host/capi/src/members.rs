//! Who is in the cluster, and where a series goes: snapshots that never change.

use crate::client::{self, zepto_client};
use crate::error::{Failure, zepto_error};
use crate::handle::{clear, get, hand_out};
use crate::sized::{self, grows};
use crate::status::*;
use crate::text::zepto_str;
use core::time::Duration;
use std::sync::Arc;
use zepto_core::topology::MemberState;
use zepto_core::view::{OFFLINE, View};

/// It was accepted, and not heard yet.
pub const ZEPTO_MEMBER_JOINING: u32 = 1;
/// It takes part.
pub const ZEPTO_MEMBER_ACTIVE: u32 = 2;
/// It takes part, and gives everything away.
pub const ZEPTO_MEMBER_LEAVING: u32 = 3;
/// It left, or was not heard for too long.
pub const ZEPTO_MEMBER_DEAD: u32 = 4;

/// The members as of one index of the log. Free it with `zepto_members_free`.
pub struct zepto_members(Arc<View>);

/// One member. Its texts are a part of the snapshot.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_member {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// `ZEPTO_MEMBER_*`, or a number of a later version.
    pub state: u32,
    /// Its number, which is never used twice.
    pub node: u32,
    /// Its weight: 100 is ordinary.
    pub weight: u32,
    /// Which life of it this is: grows with each start.
    pub incarnation: u64,
    /// Its text id.
    pub name: zepto_str,
    /// Where it is reached, `host:port`.
    pub address: zepto_str,
    /// Its failure zone, or empty.
    pub zone: zepto_str,
    /// Partitions that it owns.
    pub partitions: u32,
    /// Zero.
    pub reserved: u32,
}
grows!(zepto_member = 80);

/// Where a series' ticks go.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct zepto_route {
    /// `sizeof` of this struct.
    pub struct_size: u32,
    /// Its partition.
    pub partition: u32,
    /// The epoch of that: the index of the log's entry that last changed its owner or copies.
    pub epoch: u64,
    /// The number of the node that owns it; 0 is nobody.
    pub node: u32,
    /// 1 if the owner takes part, so that ticks can be sent to it.
    pub online: u32,
}
grows!(zepto_route = 24);

/// The members as they are known now. [any thread] [callback-safe]
///
/// # Safety
/// `client` must be of this library, `out` writable, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_get(
    client: *const zepto_client,
    out: *mut *mut zepto_members,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_members(client.shared.client.view())) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, body) }
}

/// Waits until the cluster has changed beyond an index of the log, and gives the members then;
/// `ZEPTO_E_TIMEOUT` when it has not. With index 0 it does not wait.
/// [any thread] [not callback-safe]
///
/// # Safety
/// As for `zepto_members_get`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_wait(
    client: *const zepto_client,
    after_index: u64,
    timeout_ns: u64,
    out: *mut *mut zepto_members,
    error: *mut *mut zepto_error,
) -> zepto_status {
    let body = |client: &zepto_client| {
        // SAFETY: the caller's promise.
        unsafe { clear(out, "out") }?;
        let (shared, within) = (&client.shared, Duration::from_nanos(timeout_ns));
        let waiting = shared
            .client
            .wait_until("nothing has changed", within, |placement| placement.index > after_index);
        shared.wait(waiting)??;
        // SAFETY: the caller's promise; it is not NULL.
        unsafe { hand_out(out, zepto_members(shared.client.view())) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { client::of(client, error, body) }
}

/// How many members there are; 0 of NULL. [any thread] [callback-safe]
///
/// # Safety
/// `members` must be NULL or of this library, and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_count(members: *const zepto_members) -> usize {
    // SAFETY: the caller's promise.
    let members = unsafe { members.as_ref() };
    members.map_or(0, |members| members.0.placement().members.len())
}

/// The index of the log that this is of; 0 of NULL. [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_members_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_index(members: *const zepto_members) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { members.as_ref() }.map_or(0, |members| members.0.index())
}

/// Fills in the `place`th member, from 0. [any thread] [callback-safe]
///
/// # Safety
/// `members` must be of this library, `out` writable, its `struct_size` filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_at(
    members: *const zepto_members,
    place: usize,
    out: *mut zepto_member,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        let members = unsafe { get(members, "members") }?;
        let placement = members.0.placement();
        let member = placement.members.get(place);
        let member = member.ok_or_else(|| Failure::new(ZEPTO_E_NOT_FOUND, "no such member"))?;
        let filled = zepto_member {
            struct_size: size_of::<zepto_member>() as u32,
            state: state_of(member.state),
            node: member.id.0,
            weight: member.weight.into(),
            incarnation: member.incarnation.0,
            name: zepto_str::of(&member.name),
            address: zepto_str::of(&member.address),
            zone: zepto_str::of(&member.zone),
            partitions: placement.owned_by(member.id).count() as u32,
            reserved: 0,
        };
        // SAFETY: the caller's promise.
        unsafe { sized::write(out, &filled) }
    };
    // SAFETY: no error is wanted.
    unsafe { crate::handle::call(None, core::ptr::null_mut(), body) }
}

fn state_of(state: MemberState) -> u32 {
    match state {
        MemberState::Joining => ZEPTO_MEMBER_JOINING,
        MemberState::Active => ZEPTO_MEMBER_ACTIVE,
        MemberState::Leaving => ZEPTO_MEMBER_LEAVING,
        MemberState::Dead => ZEPTO_MEMBER_DEAD,
    }
}

/// Where the ticks of a series go as of this snapshot. [any thread] [callback-safe]
///
/// # Safety
/// As for `zepto_members_at`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_route(
    members: *const zepto_members,
    table: u16,
    symbol: u32,
    out: *mut zepto_route,
) -> zepto_status {
    let body = || {
        // SAFETY: the caller's promise.
        let view = &unsafe { get(members, "members") }?.0;
        let route = view.route(table, symbol);
        let filled = zepto_route {
            struct_size: size_of::<zepto_route>() as u32,
            partition: route.partition.0,
            epoch: view.epoch(route.partition).0,
            node: view.owner(route.partition).map_or(0, |owner| owner.id.0),
            online: u32::from(route.destination != OFFLINE),
        };
        // SAFETY: the caller's promise.
        unsafe { sized::write(out, &filled) }
    };
    // SAFETY: no error is wanted.
    unsafe { crate::handle::call(None, core::ptr::null_mut(), body) }
}

/// Frees it; NULL is fine. [any thread] [callback-safe]
///
/// # Safety
/// `members` must be NULL or of this library, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zepto_members_free(members: *mut zepto_members) {
    if !members.is_null() {
        // SAFETY: the caller's promise; it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(members) });
    }
}
