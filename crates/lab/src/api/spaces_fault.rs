//! Faults of Spaces to order: what a repository's client must survive.

use serde::{Deserialize, Serialize};

use super::fault::Rule;

/// What happens to a request to Spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum SpacesFault {
    /// It is carried out, but slowly.
    Slow {
        /// Milliseconds before anything happens.
        #[serde(default)]
        ms: u64,
        /// How fast bodies move, either way; as fast as they can if not given.
        #[serde(default)]
        bytes_per_second: Option<u64>,
    },
    /// 403 `AccessDenied`.
    Forbidden,
    /// 500 `InternalError`.
    Error,
    /// 503 `SlowDown`.
    SlowDown,
    /// The connection is reset when this much of an upload has come, and nothing is stored.
    Reset {
        /// Bytes of the body.
        #[serde(default)]
        after_bytes: u64,
    },
    /// What would be stored beyond a limit is refused with 403 `QuotaExceeded`: the answer of Ceph's gateway, which
    /// Spaces is made of.
    Full {
        /// What all buckets may hold; what they hold already if not given.
        #[serde(default)]
        bytes: Option<u64>,
    },
    /// The bucket is another account's: it cannot be made (409 `BucketAlreadyExists`) and everything else is 403.
    Taken,
}

/// How Spaces is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// Connections are refused.
    Refused,
    /// Connections are made, and reset.
    Reset,
}

/// The faults in force. Unlike the API's they outlive the daemon, as an outage would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpacesFaults {
    /// Rules; all that match strike. The path is `/BUCKET/KEY`. One that is used up is removed.
    pub rules: Vec<Rule<SpacesFault>>,
    /// Whether, and how, all of it is away.
    pub away: Option<Away>,
}

impl SpacesFaults {
    /// The faults for a request: of every rule that matches and is ripe.
    pub fn strike(&mut self, method: &str, path: &str) -> Vec<SpacesFault> {
        let mut struck = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| rule.matches(method, path)) {
            if rule.after > 0 {
                rule.after -= 1;
            } else {
                rule.count = rule.count.map(|count| count.saturating_sub(1));
                struck.push(rule.fault.clone());
            }
        }
        self.rules.retain(|rule| rule.count != Some(0));
        struck
    }

    /// A line for each, as `cluster lab status` shows it.
    pub fn describe(&self) -> Vec<String> {
        let away = self.away.map(|away| match away {
            Away::Refused => "away: connections are refused".to_owned(),
            Away::Reset => "away: connections are reset".to_owned(),
        });
        away.into_iter().chain(self.rules.iter().map(describe)).collect()
    }
}

fn describe(rule: &Rule<SpacesFault>) -> String {
    let what = match &rule.fault {
        SpacesFault::Slow { ms, bytes_per_second: None } => format!("slow: {ms} ms"),
        SpacesFault::Slow { ms, bytes_per_second: Some(rate) } => {
            format!("slow: {ms} ms, {rate} bytes a second")
        }
        SpacesFault::Forbidden => "403 AccessDenied".to_owned(),
        SpacesFault::Error => "500 InternalError".to_owned(),
        SpacesFault::SlowDown => "503 SlowDown".to_owned(),
        SpacesFault::Reset { after_bytes } => format!("uploads are reset after {after_bytes} bytes"),
        SpacesFault::Full { bytes: None } => "full".to_owned(),
        SpacesFault::Full { bytes: Some(bytes) } => format!("full at {bytes} bytes"),
        SpacesFault::Taken => "the bucket is another account's".to_owned(),
    };
    let mut line =
        format!("{what} ({}{})", rule.method.as_ref().map_or(String::new(), |m| format!("{m} ")), rule.path);
    if rule.after > 0 {
        line += &format!(", after {} requests", rule.after);
    }
    if let Some(count) = rule.count {
        line += &format!(", {count} times");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, fault: SpacesFault) -> Rule<SpacesFault> {
        Rule { method: None, path: path.to_owned(), fault, after: 0, count: None }
    }

    #[test]
    fn all_that_match_strike() {
        let slow = SpacesFault::Slow { ms: 5, bytes_per_second: None };
        let mut faults = SpacesFaults {
            rules: vec![
                rule("*", slow.clone()),
                rule("/b/*", SpacesFault::SlowDown).times(1).after(1),
                Rule { method: Some("PUT".into()), ..rule("/b/*", SpacesFault::Error) },
            ],
            away: None,
        };
        assert_eq!(faults.strike("GET", "/b/k"), [slow.clone()].as_slice());
        assert_eq!(faults.strike("GET", "/b/k"), [slow.clone(), SpacesFault::SlowDown]);
        assert_eq!(faults.strike("PUT", "/b/k"), [slow, SpacesFault::Error]);
        assert_eq!(faults.rules.len(), 2);
    }

    #[test]
    fn faults_are_described() {
        let faults = SpacesFaults {
            rules: vec![Rule {
                method: Some("PUT".into()),
                ..rule("/b/*", SpacesFault::SlowDown).times(2).after(1)
            }],
            away: Some(Away::Refused),
        };
        assert_eq!(
            faults.describe(),
            ["away: connections are refused", "503 SlowDown (PUT /b/*), after 1 requests, 2 times"]
        );
    }
}
