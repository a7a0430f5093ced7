//! Random moments across two failovers and a rejoined old primary: what was committed before is there, and nothing else.

use std::time::Instant;

use crate::support::{Lab, PREPARED};

/// A row: its number, when it was written (seconds since 1970) and where, both before its commit.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: u64,
    at: f64,
    lsn: u64,
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
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

fn seconds_of(lab: &Lab, node: &str) -> f64 {
    lab.sql(node, "app", "select extract(epoch from clock_timestamp())").parse().unwrap()
}

/// Plays `count` moments drawn from `seed`.
pub(crate) fn sweep(number: u8, count: usize, seed: u64) {
    let lab = Lab::start(number, PREPARED);
    let home = format!("/var/lib/cluster-lab/{}", lab.name);
    let inventory = lab.inventory(
        "demo.yaml",
        PREPARED,
        &format!(
            "backup:\n  spaces:\n    bucket: demo-backups\n    endpoint: https://spaces.lab:{}\n    address: 127.0.0.1\n    \
             ca: {home}/spaces_ca.crt\npostgresql:\n  version: 15\nusers:\n  - name: app\ndatabases:\n  - name: app\n\
             nodes:\n  - {{name: pg1, id: 1, role: primary}}\n  - {{name: pg2, id: 2, role: standby}}\n  - {{name: pg3, id: 3, role: witness}}\n",
            lab.port + 1000
        ),
    );
    lab.cluster(&["up", "-i", &inventory]).ok();
    lab.sql("pg1", "app", "create table t (id bigint primary key, at timestamptz, lsn pg_lsn)");
    lab.sql("pg1", "app", WRITER);
    let has_backup = |timeline: u64| {
        lab.wait_for_status(&inventory, 240, |status| {
            let last = status["backups"]["contents"]["backups"].as_array().and_then(|all| all.last());
            status["healthy"] == true && last.is_some_and(|last| last["timeline"] == timeline)
        })
    };
    has_backup(1);
    let mut turns = Vec::new();
    lab.sql("pg1", "app", "call write(15)");
    lab.cluster(&["switchover", "-i", &inventory]).ok();
    turns.push(seconds_of(&lab, "pg2"));
    lab.sql("pg2", "app", "call write(15)");
    has_backup(2);
    lab.sql("pg2", "app", "call write(10)");
    lab.ssh("pg2", "systemctl kill -s KILL postgresql@15-main");
    lab.wait_for_status(&inventory, 60, |status| status["primary"] == "pg1");
    turns.push(seconds_of(&lab, "pg1"));
    lab.sql("pg1", "app", "call write(15)");
    has_backup(3);
    lab.sql("pg1", "app", "call write(10)");
    lab.cluster(&["backup", "check", "-i", &inventory]).ok();

    let contents = lab.cluster(&["backup", "list", "-i", &inventory, "--json"]).ok().json();
    println!("{contents}");
    let intervals = contents["intervals"].as_array().unwrap();
    assert_eq!(intervals.len(), 1, "{contents}");
    let lsn = |text: &str| text.parse::<cluster_contract::position::Lsn>().unwrap().0;
    let (from, until) =
        (intervals[0]["from"].as_f64().unwrap() + 1.0, intervals[0]["until"].as_f64().unwrap());
    let rows: Vec<Row> = lab
        .sql("pg1", "app", "select id, extract(epoch from at), lsn from t order by id")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            Row { id: fields[0].parse().unwrap(), at: fields[1].parse().unwrap(), lsn: lsn(fields[2]) }
        })
        .collect();
    println!("{} rows, {:.0} s that can be restored", rows.len(), until - from);
    let scripts = lab.directory.path().join("scripts");
    lab.cluster(&["render", scripts.to_str().unwrap()]).ok();
    for (name, text) in [
        ("restore-unit.sh", std::fs::read_to_string(scripts.join("restore-unit.sh")).unwrap()),
        ("moment.sh", include_str!("moment.sh").to_owned()),
    ] {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        lab.ssh("pg2", &format!("echo {text} | base64 -d >/root/{name}"));
    }
    let mut random = Random(seed);
    let mut wrong = Vec::new();
    let begun = Instant::now();
    for number in 0..count {
        let (kind, target, least, most) = if random.below(10) < 3 {
            let (first, last) = (lsn(intervals[0]["from_lsn"].as_str().unwrap()), rows.last().unwrap().lsn);
            let at = first + random.below(last - first);
            // The first record that begins there or later is the last one that is replayed.
            let restored = rows.iter().filter(|row| row.lsn <= at).count();
            ("lsn", cluster_contract::position::Lsn(at).to_string(), restored.saturating_sub(2), restored)
        } else {
            let at = match random.below(10) {
                0..=2 => turns[random.below(2) as usize] + random.between(-3.0, 3.0),
                3 => until - random.between(0.0, 4.0),
                _ => random.between(from, until),
            };
            let at = at.clamp(from, until);
            let restored = rows.iter().filter(|row| row.at <= at).count();
            let time = jiff::Timestamp::from_microsecond((at * 1e6) as i64).unwrap();
            ("time", time.strftime("%F %T%.6f+00").to_string(), restored.saturating_sub(1), restored)
        };
        let run = lab.try_ssh("pg2", &format!("sh /root/moment.sh /root/restore-unit.sh {kind} '{target}'"));
        let got = run.stdout.trim().to_owned();
        let (has, last) = got
            .split_once('|')
            .and_then(|(has, last)| Some((has.parse::<usize>().ok()?, last.parse::<u64>().ok()?)))
            .unwrap_or((usize::MAX, 0));
        // A row that was being committed at that moment may be there or not; no other.
        let right = (least..=most).contains(&has) && (has == 0 || rows[has - 1].id == last);
        println!(
            "{number}: {kind} {target}: {got}, expected {least} to {most}{}",
            if right { "" } else { " WRONG" }
        );
        if !right {
            wrong.push(format!("{kind} {target}: {got} {}, expected {least} to {most}", run.stderr));
        }
    }
    println!("{count} moments in {:.0} s, {} of them wrong", begun.elapsed().as_secs_f64(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    lab.wait_for_status(&inventory, 60, |status| status["healthy"] == true);
    lab.stop();
}
