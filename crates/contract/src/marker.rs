//! What `cluster` has written down about a node's data directory.

use serde::{Deserialize, Serialize};

/// Written before a data directory is made and after each stage of it, so that what a killed run left can be told
/// from what somebody else put there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The cluster that it belongs to.
    pub cluster: String,
    /// How far it has come.
    #[serde(rename = "made")]
    pub stage: Stage,
    /// The data's system identifier, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
}

/// The stages of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `pg_createcluster` was begun; what it left is worth nothing.
    Creating,
    /// A new, empty cluster that was never started.
    Virgin,
    /// Started as the cluster's first primary.
    Primary,
    /// Started as the witness.
    Witness,
    /// A clone was begun; what it left is worth nothing.
    Cloning,
    /// Cloned.
    Standby,
}

impl Stage {
    /// All of them, in the order in which a data directory can reach them.
    pub const ALL: [Stage; 6] =
        [Stage::Creating, Stage::Virgin, Stage::Primary, Stage::Witness, Stage::Cloning, Stage::Standby];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Creating => "creating",
            Stage::Virgin => "virgin",
            Stage::Primary => "primary",
            Stage::Witness => "witness",
            Stage::Cloning => "cloning",
            Stage::Standby => "standby",
        }
    }

    /// Whether the data is somebody's: it was started, or cloned.
    pub fn is_finished(self) -> bool {
        matches!(self, Stage::Primary | Stage::Witness | Stage::Standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_called_what_it_is_written_as() {
        for stage in Stage::ALL {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.word());
        }
    }

    #[test]
    fn what_earlier_builds_wrote_is_read() {
        let text = r#"{"cluster":"demo","made":"standby","system_identifier":"7712308492641642594"}"#;
        let marker: Marker = serde_json::from_str(text).unwrap();
        assert!(marker.stage.is_finished());
        assert_eq!(serde_json::to_string(&marker).unwrap(), text);
        let text = r#"{"cluster":"demo","made":"creating"}"#;
        let marker: Marker = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&marker).unwrap(), text);
    }
}
