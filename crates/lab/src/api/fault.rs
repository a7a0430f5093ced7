//! Faults to order: what a client must survive, when and how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happens to a request instead of, or besides, being answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It is answered with a status, and nothing is done.
    Status {
        /// The status.
        code: u16,
        /// The body; the API's usual one for the status if not given.
        #[serde(default)]
        body: Option<Value>,
    },
    /// It is carried out, and the connection closes without an answer.
    LoseReply,
    /// The connection closes, and nothing is done.
    Drop,
    /// It is left without an answer for a time, then the connection closes; nothing is done.
    Hang {
        /// Milliseconds.
        ms: u64,
    },
    /// It is carried out and answered, but later.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// It is answered with 429, and nothing is done.
    RateLimit {
        /// Seconds for `retry-after`; no such header if not given.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// It is answered with 422, "already has a pending event", and nothing is done.
    PendingEvent,
    /// It is answered with a text as it stands, as a proxy does, and nothing is done.
    Body {
        /// The status.
        code: u16,
        /// The text.
        #[serde(default)]
        text: String,
        /// Headers; `content-type` is `text/html` if not given.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// It is carried out, and the connection closes in the middle of the answer.
    Truncate,
    /// It is carried out and answered, but the droplets that it asks for are not made: their `create` actions end badly.
    FailCreate,
}

/// Which requests have a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule<F = Fault> {
    /// Method; any if not given.
    #[serde(default)]
    pub method: Option<String>,
    /// Path without query. `*` stands for any run of characters: `/v2/droplets/*/actions`, `/v2/*`.
    pub path: String,
    /// What happens.
    #[serde(flatten)]
    pub fault: F,
    /// How many matching requests pass unharmed first.
    #[serde(default)]
    pub after: u32,
    /// How many requests it then happens to; all if not given.
    #[serde(default)]
    pub count: Option<u32>,
}

impl<F> Rule<F> {
    /// A rule that strikes once.
    pub fn once(method: &str, path: &str, fault: F) -> Self {
        Self { method: Some(method.to_owned()), path: path.to_owned(), fault, after: 0, count: Some(1) }
    }

    /// The same rule, striking this many times.
    pub fn times(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The same rule, after this many matching requests.
    pub fn after(self, after: u32) -> Self {
        Self { after, ..self }
    }

    pub(super) fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && glob(&self.path, path)
    }
}

/// The faults in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Rules, tried in order; one that is used up is removed.
    pub rules: Vec<Rule>,
    /// Whether the whole API is away: every connection closes without an answer.
    pub away: bool,
}

impl Faults {
    /// The fault for a request, if any: the first rule that matches and is ripe. Every rule that matches counts
    /// the request.
    pub fn strike(&mut self, method: &str, path: &str) -> Option<Fault> {
        if self.away {
            return Some(Fault::Drop);
        }
        let mut struck = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.matches(method, path)) {
            if rule.after > 0 {
                rule.after -= 1;
            } else if struck.is_none() {
                rule.count = rule.count.map(|count| count.saturating_sub(1));
                struck = Some(rule.fault.clone());
            }
        }
        self.rules.retain(|rule| rule.count != Some(0));
        struck
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            let Some(rest) = text.strip_prefix(head) else { return false };
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| glob(tail, rest)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_whole() {
        for (pattern, path, want) in [
            ("/v2/droplets", "/v2/droplets", true),
            ("/v2/droplets", "/v2/droplets/1", false),
            ("/v2/droplets/*/actions", "/v2/droplets/7/actions", true),
            ("/v2/droplets/*/actions", "/v2/droplets/7/actions/9", false),
            ("/v2/*", "/v2/anything/at/all", true),
            ("*/actions/*", "/v2/reserved_ips/10.0.0.1/actions/4", true),
        ] {
            assert_eq!(glob(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_rule_skips_strikes_and_goes() {
        let rule = Rule::once("POST", "/v2/droplets", Fault::LoseReply).after(1).times(2);
        let mut faults = Faults { rules: vec![rule], away: false };
        let struck: Vec<bool> = (0..5).map(|_| faults.strike("POST", "/v2/droplets").is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(faults.rules.is_empty());
        assert_eq!(Faults { away: true, ..faults }.strike("GET", "/v2/account"), Some(Fault::Drop));
    }

    #[test]
    fn rules_are_written_flat() {
        let text = r#"{"method":"POST","path":"/v2/droplets","fault":"status","code":503,"count":2}"#;
        let rule: Rule = serde_json::from_str(text).unwrap();
        assert_eq!(
            rule,
            Rule::once("POST", "/v2/droplets", Fault::Status { code: 503, body: None }).times(2)
        );
        let forever: Rule = serde_json::from_str(r#"{"path":"/v2/*","fault":"pending_event"}"#).unwrap();
        assert_eq!(forever.count, None);
    }
}
