//! Calls that tell the host something: log lines, errors, metrics, answers, replies.

use super::effect::Effect;
use super::{Context, Phase, clip};
use crate::vet::Answer;
use zepto_abi::plugin::{
    CAP_METRIC, KIND_DISCOVERY, LOG_DEBUG, LOG_ERROR, LOG_INFO, LOG_TRACE, LOG_WARN,
    METRIC_COUNTER, METRIC_GAUGE, PluginStatus,
};
use zepto_core::limits::{
    PLUGIN_ERROR_BYTES_MAX, PLUGIN_LOG_BYTES_MAX, PLUGIN_METRIC_NAME_BYTES_MAX, PLUGIN_METRICS_MAX,
};

type Done = Result<(), PluginStatus>;

impl Context {
    /// `zp_log`.
    pub(crate) fn log(&mut self, level: u32, bytes: &[u8]) -> Done {
        if self.phase == Phase::Idle {
            return Err(PluginStatus::BadState);
        }
        let now = self.setting.env.now();
        if !self.log_lines.take(now) {
            self.count_refusal("log_lines");
            return Err(PluginStatus::Busy);
        }
        let left_out = self.log_lines.take_refused();
        let (plugin, text) = (&self.setting.name, clip(bytes, PLUGIN_LOG_BYTES_MAX));
        if left_out > 0 {
            tracing::warn!(plugin, left_out, "log lines above the limit were left out");
        }
        match level {
            LOG_TRACE => tracing::trace!(plugin, "{text}"),
            LOG_DEBUG => tracing::debug!(plugin, "{text}"),
            LOG_INFO => tracing::info!(plugin, "{text}"),
            LOG_WARN => tracing::warn!(plugin, "{text}"),
            LOG_ERROR => tracing::error!(plugin, "{text}"),
            _ => return Err(PluginStatus::Invalid),
        }
        Ok(())
    }

    /// `zp_set_error`.
    pub(crate) fn set_error(&mut self, code: i32, bytes: &[u8]) -> Done {
        self.working()?;
        let text = clip(bytes, PLUGIN_ERROR_BYTES_MAX);
        let status = PluginStatus::from_code(code).map_or("", PluginStatus::text);
        self.error = if status.is_empty() { text } else { format!("{text} ({status})") };
        Ok(())
    }

    /// `zp_metric`.
    pub(crate) fn metric(&mut self, kind: u32, name: &[u8], value: i64) -> Done {
        self.granted(CAP_METRIC)?;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let length = (1..=PLUGIN_METRIC_NAME_BYTES_MAX).contains(&name.len());
        if !length || !name.iter().all(plain) || name.first().is_some_and(u8::is_ascii_digit) {
            return Err(self.refuse("metric", PluginStatus::Invalid, "a metric's name"));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if self.metrics.len() >= PLUGIN_METRICS_MAX && !self.metrics.contains_key(&name) {
            return Err(self.refuse("metric", PluginStatus::TooBig, "too many metrics"));
        }
        if kind != METRIC_COUNTER && kind != METRIC_GAUGE {
            return Err(self.refuse("metric", PluginStatus::Invalid, "a metric's kind"));
        }
        let entry = self.metrics.entry(name).or_default();
        *entry = if kind == METRIC_GAUGE { value } else { entry.saturating_add(value.max(0)) };
        Ok(())
    }

    /// `zp_emit`.
    pub(crate) fn emit(&mut self, bytes: Vec<u8>) -> Done {
        self.working()?;
        if self.kinds & (1 << KIND_DISCOVERY) == 0 {
            let text = "only a discovery plugin tells of nodes";
            return Err(self.refuse("kind", PluginStatus::Unsupported, text));
        }
        if !self.is_serving {
            let text = "nodes are told from START to STOP";
            return Err(self.refuse("not_serving", PluginStatus::BadState, text));
        }
        match Answer::check(bytes, self.setting.limits.nodes, self.revision) {
            Ok(answer) => {
                let revision = answer.revision();
                self.push(Effect::Nodes(answer))?;
                self.revision = revision;
                Ok(())
            }
            Err(wrong) => {
                tracing::warn!(plugin = self.setting.name, "answer refused: {wrong}");
                Err(self.refuse(wrong.reason, wrong.status, &wrong.text))
            }
        }
    }

    /// `zp_reply`.
    pub(crate) fn reply(&mut self, token: u64, status: i32, bytes: Vec<u8>) -> Done {
        self.working()?;
        if !self.questions.contains(&token) {
            let text = "a reply to no question, or the second to one";
            return Err(self.refuse("bad_token", PluginStatus::BadHandle, text));
        }
        self.push(Effect::Reply { token, status, bytes })?;
        self.questions.remove(&token);
        Ok(())
    }
}
