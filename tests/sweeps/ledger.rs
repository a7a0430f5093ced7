//! What was committed when: rows with the time and the position of their transaction, and whether a restored copy has
//! those that it must have.

use cluster_contract::position::Lsn;

use crate::support::{Lab, PREPARED};

/// A row: its number, when it was written (seconds since 1970) and where, both before its commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) at: f64,
    pub(crate) lsn: u64,
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    pub(crate) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.below(1 << 30) as f64 / (1_u64 << 30) as f64
    }
}

/// A transaction a row, some twenty a second.
const WRITER: &str = "create procedure write(seconds int) language plpgsql as \\$\\$
    declare until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    begin
        while clock_timestamp() < until loop
            insert into t select coalesce(max(id), 0) + 1, clock_timestamp(), pg_current_wal_insert_lsn() from t;
            commit;
            perform pg_sleep(0.03 + random() * 0.04);
        end loop;
    end \\$\\$";

/// A lab with a cluster that has a repository, a ledger and a first backup.
pub(crate) fn stage(number: u8) -> (Lab, String) {
    let lab = Lab::start(number, PREPARED);
    let home = format!("/var/lib/cluster-lab/{}", lab.name);
    let inventory = lab.inventory(
        "demo.yaml",
        PREPARED,
        &format!(
            "backup:\n  spaces:\n    bucket: demo-backups\n    endpoint: https://spaces.lab:{}\n    address: 127.0.0.1\n    \
             ca: {home}/spaces_ca.crt\n  prove_every: never\npostgresql:\n  version: 15\nusers:\n  - name: app\ndatabases:\n  - name: app\n\
             nodes:\n  - {{name: pg1, id: 1, role: primary}}\n  - {{name: pg2, id: 2, role: standby}}\n  - {{name: pg3, id: 3, role: witness}}\n",
            lab.port + 1000
        ),
    );
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.sql("pg1", "app", "create table t (id bigint primary key, at timestamptz, lsn pg_lsn)");
    lab.sql("pg1", "app", WRITER);
    has_backup(&lab, &inventory, 1);
    (lab, inventory)
}

/// Waits until the cluster is healthy and its last backup is of this timeline.
pub(crate) fn has_backup(lab: &Lab, inventory: &str, timeline: u64) {
    lab.wait_for_status(inventory, 300, |status| {
        let last = status["backups"]["contents"]["backups"].as_array().and_then(|all| all.last());
        status["healthy"] == true && last.is_some_and(|last| last["timeline"] == timeline)
    });
}

pub(crate) fn seconds_of(lab: &Lab, node: &str) -> f64 {
    lab.sql(node, "app", "select extract(epoch from clock_timestamp())").parse().unwrap()
}

/// All rows, in their order.
pub(crate) fn rows(lab: &Lab, node: &str) -> Vec<Row> {
    lab.sql(node, "app", "select id, extract(epoch from at), lsn from t order by id")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            let lsn = fields[2].parse::<Lsn>().unwrap().0;
            Row { id: fields[0].parse().unwrap(), at: fields[1].parse().unwrap(), lsn }
        })
        .collect()
}

/// A moment to restore to, and how many rows there were then: one that was being committed may be there or not.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    kind: &'static str,
    target: String,
    least: usize,
    most: usize,
}

impl Moment {
    pub(crate) fn at_position(rows: &[Row], at: u64) -> Moment {
        // The first record that begins there or later is the last one that is replayed.
        let most = rows.iter().filter(|row| row.lsn <= at).count();
        Moment { kind: "lsn", target: Lsn(at).to_string(), least: most.saturating_sub(2), most }
    }

    pub(crate) fn at_time(rows: &[Row], at: f64) -> Moment {
        let most = rows.iter().filter(|row| row.at <= at).count();
        let time = jiff::Timestamp::from_microsecond((at * 1e6) as i64).unwrap();
        let target = time.strftime("%F %T%.6f+00").to_string();
        Moment { kind: "time", target, least: most.saturating_sub(1), most }
    }
}

/// Puts on a node what restores moments beside its data.
pub(crate) fn prepare(lab: &Lab, node: &str) {
    use base64::Engine as _;
    let scripts = lab.directory.path().join("scripts");
    lab.cluster(&["render", scripts.to_str().unwrap()]).ok();
    for (name, text) in [
        ("restore-unit.sh", std::fs::read_to_string(scripts.join("restore-unit.sh")).unwrap()),
        ("moment.sh", include_str!("moment.sh").to_owned()),
    ] {
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        lab.ssh(node, &format!("echo {text} | base64 -d >/root/{name}"));
    }
}

/// Restores a moment beside the data of a node, and throws it away. `end` is how far the files in the repository lead.
pub(crate) fn restored(
    lab: &Lab,
    node: &str,
    moment: &Moment,
    end: &str,
    rows: &[Row],
) -> Result<String, String> {
    let Moment { kind, target, least, most } = moment;
    let run = lab.run_on(node, &format!("sh /root/moment.sh /root/restore-unit.sh {kind} '{target}' {end}"));
    let got = run.stdout.trim().to_owned();
    let (has, last) = got
        .split_once('|')
        .and_then(|(has, last)| Some((has.parse::<usize>().ok()?, last.parse::<u64>().ok()?)))
        .unwrap_or((usize::MAX, 0));
    let right = (*least..=*most).contains(&has) && (has == 0 || rows[has - 1].id == last);
    let text = format!("{kind} {target}: {got}, expected {least} to {most}");
    if right { Ok(text) } else { Err(format!("{text} WRONG {}", run.stderr.trim())) }
}
