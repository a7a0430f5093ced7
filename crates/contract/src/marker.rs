//! What `cluster` has written down about a node's data directory.

use serde::{Deserialize, Serialize};

/// Written before a data directory is made and after each stage of it, so that what a killed run left can be told
/// from what somebody else put there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The name of the cluster that the data belongs to.
    pub cluster: String,
    /// The last stage that was begun or reached.
    #[serde(rename = "made")]
    pub stage: DataStage,
    /// PostgreSQL's system identifier of the data; none before it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
}

/// How far a data directory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataStage {
    /// `pg_createcluster` was begun; what it left is worth nothing.
    Creating,
    /// A new, empty cluster that was never started.
    #[serde(rename = "virgin")]
    Initialized,
    /// Started as the cluster's first primary.
    Primary,
    /// Started as the witness.
    Witness,
    /// A clone was begun; what it left is worth nothing.
    Cloning,
    /// Cloned.
    Standby,
}

impl DataStage {
    /// All of them, in the order in which a data directory can reach them.
    pub const ALL: [DataStage; 6] = [
        DataStage::Creating,
        DataStage::Initialized,
        DataStage::Primary,
        DataStage::Witness,
        DataStage::Cloning,
        DataStage::Standby,
    ];

    /// The word for it on disk and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            DataStage::Creating => "creating",
            DataStage::Initialized => "virgin",
            DataStage::Primary => "primary",
            DataStage::Witness => "witness",
            DataStage::Cloning => "cloning",
            DataStage::Standby => "standby",
        }
    }

    /// Whether the data is somebody's: it was started, or cloned.
    pub fn is_finished(self) -> bool {
        matches!(self, DataStage::Primary | DataStage::Witness | DataStage::Standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_called_what_it_is_written_as() {
        for stage in DataStage::ALL {
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
