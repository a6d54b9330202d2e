//! Calls that ask the host for something: clocks, chance, timers, requests, sockets, kept values.

use super::Context;
use super::effect::Effect;
use crate::grant::Target;
use crate::http;
use core::str;
use std::net::SocketAddr;
use zepto_abi::plugin::{
    CAP_HTTP, CAP_KV, CAP_RANDOM, CAP_UDP, CLOCK_MONO, CLOCK_WALL, FUNCTIONS, INFO_FEATURES,
    INFO_LAST_ERROR, INFO_NODE_ID, PluginStatus, TOKEN_BIT,
};
use zepto_core::limits::{
    PLUGIN_HTTP_MAX, PLUGIN_RANDOM_BYTES_MAX, PLUGIN_TIMER_DELAY_MS_MIN,
    PLUGIN_TIMER_PERIOD_MS_MIN, PLUGIN_TIMERS_MAX, PLUGIN_UDP_BYTES_MAX, PLUGIN_UDP_SOCKETS_MAX,
};
use zepto_message::Request;

type Done = Result<(), PluginStatus>;

impl Context {
    /// `zp_info`.
    pub(crate) fn info(&mut self, what: u32) -> Result<Vec<u8>, PluginStatus> {
        self.working()?;
        match what {
            INFO_FEATURES => {
                let features = FUNCTIONS.iter().fold(0u64, |all, _| all << 1 | 1);
                Ok(features.to_le_bytes().to_vec())
            }
            INFO_NODE_ID => Ok(self.setting.node_id.clone().into_bytes()),
            INFO_LAST_ERROR => Ok(self.error.clone().into_bytes()),
            _ => Err(PluginStatus::NotFound),
        }
    }

    /// `zp_clock`.
    pub(crate) fn clock(&mut self, id: u32) -> Result<u64, PluginStatus> {
        self.working()?;
        match id {
            CLOCK_MONO => Ok(self.setting.env.now().0),
            CLOCK_WALL => Ok(self.setting.env.wall_ns()),
            _ => Err(PluginStatus::Invalid),
        }
    }

    /// `zp_random`.
    pub(crate) fn random(&mut self, count: usize) -> Result<Vec<u8>, PluginStatus> {
        self.granted(CAP_RANDOM)?;
        if count > PLUGIN_RANDOM_BYTES_MAX {
            return Err(self.refuse("too_big", PluginStatus::TooBig, "too many random bytes"));
        }
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.setting.env.random().to_le_bytes());
        }
        bytes.truncate(count);
        Ok(bytes)
    }

    /// `zp_timer`.
    pub(crate) fn timer(&mut self, id: u64, delay_ns: u64, period_ns: u64) -> Done {
        self.working()?;
        if id & TOKEN_BIT != 0 {
            let text = "the id of a timer has the top bit clear";
            return Err(self.refuse("timer", PluginStatus::Invalid, text));
        }
        if delay_ns == 0 {
            return self.cancel(id);
        }
        if period_ns != 0 && period_ns < PLUGIN_TIMER_PERIOD_MS_MIN * 1_000_000 {
            let text = format!("a timer repeats after {PLUGIN_TIMER_PERIOD_MS_MIN} ms or more");
            return Err(self.refuse("timer", PluginStatus::Invalid, &text));
        }
        if self.timers.len() >= PLUGIN_TIMERS_MAX && !self.timers.contains(&id) {
            return Err(self.refuse("timer", PluginStatus::Busy, "too many timers"));
        }
        // A plugin that is always busy with itself hears of nothing else.
        let delay_ns = delay_ns.max(PLUGIN_TIMER_DELAY_MS_MIN * 1_000_000);
        self.push(Effect::Timer { id, delay_ns, period_ns })?;
        self.timers.insert(id);
        Ok(())
    }

    /// `zp_cancel`.
    pub(crate) fn cancel(&mut self, token: u64) -> Done {
        self.working()?;
        if !self.knows(token) {
            return Err(PluginStatus::BadHandle);
        }
        self.push(Effect::Cancel(token))?;
        self.forget(token);
        Ok(())
    }

    /// `zp_http`.
    pub(crate) fn http(&mut self, bytes: &[u8]) -> Result<u64, PluginStatus> {
        self.granted(CAP_HTTP)?;
        let request = Request::read(bytes).map_err(|malformed| {
            self.refuse("malformed", malformed.status(), &malformed.to_string())
        })?;
        if self.requests.len() >= PLUGIN_HTTP_MAX {
            return Err(self.refuse("http_busy", PluginStatus::Busy, "too many requests"));
        }
        let target: Target = request
            .url
            .parse()
            .map_err(|text: String| self.refuse("http_url", PluginStatus::Invalid, &text))?;
        let message_max = self.setting.limits.message.0 as usize;
        let prepared = http::prepare(&request, target, &self.setting.grants, message_max);
        let prepared =
            prepared.map_err(|wrong| self.refuse(wrong.reason, wrong.status, &wrong.text))?;
        let token = self.token();
        self.push(Effect::Http { token, request: Box::new(prepared) })?;
        self.requests.insert(token);
        Ok(token)
    }

    /// `zp_udp_bind`.
    pub(crate) fn udp_bind(&mut self, address: &[u8]) -> Result<u64, PluginStatus> {
        self.granted(CAP_UDP)?;
        let Some(address) = socket_address(address) else {
            let text = "no IP address with a port";
            return Err(self.refuse("udp_address", PluginStatus::Invalid, text));
        };
        let grant = self.setting.grants.udp.iter().find(|grant| grant.allows_bind(address));
        let Some(grant) = grant.cloned() else {
            let text = format!("no grant to bind {address}");
            return Err(self.refuse("not_granted", PluginStatus::Denied, &text));
        };
        if self.sockets.len() >= PLUGIN_UDP_SOCKETS_MAX {
            return Err(self.refuse("udp_busy", PluginStatus::Busy, "too many sockets"));
        }
        let token = self.token();
        self.push(Effect::Bind { token, address, grant: grant.clone() })?;
        self.sockets.insert(token, grant);
        Ok(token)
    }

    /// `zp_udp_send`.
    pub(crate) fn udp_send(&mut self, socket: u64, to: &[u8], bytes: &[u8]) -> Done {
        self.granted(CAP_UDP)?;
        let Some(to) = socket_address(to) else {
            let text = "no IP address with a port";
            return Err(self.refuse("udp_address", PluginStatus::Invalid, text));
        };
        match self.sockets.get(&socket).map(|grant| grant.allows_peer(to.ip())) {
            None => return Err(PluginStatus::BadHandle),
            Some(false) => {
                let text = format!("no grant to send to {to}");
                return Err(self.refuse("not_granted", PluginStatus::Denied, &text));
            }
            Some(true) => {}
        }
        if bytes.len() > PLUGIN_UDP_BYTES_MAX {
            return Err(self.refuse("too_big", PluginStatus::TooBig, "the datagram is too big"));
        }
        if !self.datagrams.take(self.setting.env.now()) {
            return Err(self.refuse("udp_busy", PluginStatus::Busy, "too many datagrams"));
        }
        self.push(Effect::Send { token: socket, to, bytes: bytes.to_vec() })
    }

    /// `zp_kv_get`.
    pub(crate) fn kv_get(&mut self, key: &[u8]) -> Result<Vec<u8>, PluginStatus> {
        self.granted(CAP_KV)?;
        self.kv.get(key).ok_or(PluginStatus::NotFound)
    }

    /// `zp_kv_put`.
    pub(crate) fn kv_put(&mut self, key: &[u8], value: &[u8]) -> Done {
        self.granted(CAP_KV)?;
        let put = self.kv.put(key, value);
        put.map_err(|status| self.refuse("kv", status, "no key, or beyond the granted bytes"))
    }

    /// `zp_kv_del`.
    pub(crate) fn kv_del(&mut self, key: &[u8]) -> Done {
        self.granted(CAP_KV)?;
        if self.kv.delete(key) { Ok(()) } else { Err(PluginStatus::NotFound) }
    }

    /// `zp_wake`.
    pub(crate) fn wake(&self) {
        (self.setting.waker)();
    }
}

fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    str::from_utf8(bytes).ok()?.parse().ok()
}
