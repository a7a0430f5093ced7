//! repmgr's records.

use cluster::facts::host::RepmgrNode;

use super::Model;

impl Model {
    pub(super) fn register_primary(&mut self, node: &str) {
        assert!(!self.running(node).in_recovery && self.has_role(node, "repmgr"));
        let row = self.row(node, "primary", None);
        put(self.host(node).repmgr.get_or_insert_default(), row);
    }

    pub(super) fn register_standby(&mut self, node: &str) {
        assert!(self.running(node).in_recovery);
        let primary = self.writer();
        let row = self.row(node, "standby", Some(self.id(&primary)));
        put(self.host(&primary).repmgr.as_mut().expect("the primary is registered"), row);
    }

    pub(super) fn register_witness(&mut self, node: &str, primary_host: &str) {
        let primary = self.writer();
        assert_eq!(self.connection_host(&primary).to_string(), primary_host);
        assert!(self.has_role(node, "repmgr") && !self.running(node).in_recovery);
        let row = self.row(node, "witness", Some(self.id(&primary)));
        put(self.host(&primary).repmgr.as_mut().expect("the primary is registered"), row);
        self.host(node).repmgr = self.host(&primary).repmgr.clone();
    }

    pub(super) fn row(&self, node: &str, kind: &str, upstream: Option<u32>) -> RepmgrNode {
        RepmgrNode {
            id: self.id(node),
            name: node.into(),
            kind: kind.into(),
            active: true,
            upstream: upstream.map(i64::from),
            conninfo: self.conninfo(node),
        }
    }
}

fn put(rows: &mut Vec<RepmgrNode>, row: RepmgrNode) {
    rows.retain(|it| it.id != row.id);
    rows.push(row);
    rows.sort_by_key(|row| row.id);
}
