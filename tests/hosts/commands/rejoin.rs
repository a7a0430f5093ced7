//! `cluster rejoin`, and a standby that rejoins by itself.

use serde_json::json;

use super::stage::Stage;
use crate::node;

pub(super) fn a_rejoin_that_makes_no_sense(stage: &Stage) {
    stage.refuses("rejoin pg9", 2, &["the inventory has no node `pg9`", "pg1, pg2, pg3"]);
    stage.refuses("rejoin pg3", 3, &["pg3 is the witness"]);
    stage.refuses("rejoin pg1", 3, &["pg1 takes writes", "`cluster switchover`"]);
    stage.refuses("rejoin pg1 --clone", 3, &["pg1 takes writes", "`cluster switchover`"]);
    let started = stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()");
    stage.says("rejoin pg2", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(
        stage.lab.sql("pg2", "postgres", "select pg_postmaster_start_time()"),
        started,
        "nothing to do"
    );
}

/// A standby that is to stop before its start has ended used to stay behind for ever, one time of ten.
pub(super) fn a_stop_while_it_starts_ends(stage: &Stage) {
    stage.lab.ssh(
        "pg2",
        "cluster-node pause; unit=postgresql@15-main; \
         for n in $(seq 20); do \
             systemctl stop $unit && systemctl start --no-block $unit && sleep 1.$((n % 10)) && \
             timeout 120 systemctl stop $unit || { systemctl kill -s KILL $unit; exit 1; }; \
         done; cluster-node resume",
    );
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!(stage.healthy()["primary"], "pg1");
}

/// Removes a file of a standby's data while PostgreSQL stands still there, as a person would: with that node paused.
fn damage(stage: &Stage, file: &str) {
    stage.lab.ssh(
        "pg2",
        &format!(
            "cluster-node pause && systemctl stop postgresql@15-main && rm -r /var/lib/postgresql/15/main/{file} && \
             cluster-node resume"
        ),
    );
}

pub(super) fn a_damaged_standby_is_cloned_anew(stage: &Stage) {
    stage.write("pg1", "a");
    let data = "/var/lib/postgresql/15/main";
    let ours = "sha256sum /etc/cluster/* /etc/repmgr.conf /etc/postgresql/15/main/conf.d/*";
    for file in ["global/pg_filenode.map", "global/pg_control"] {
        let before = stage.lab.ssh("pg2", ours);
        // By this the directory that is kept is told from the one that is made.
        stage
            .lab
            .ssh("pg2", &format!("runuser -u postgres -- touch {data}/before-{}", file.replace('/', "-")));
        damage(stage, file);
        let (status, _) = stage.wait_for(30, |status| node(status, "pg2")["state"] == "stopped");
        assert_eq!(status["primary"], "pg1");
        // Its guard tries to start it: the server without its map runs, and answers nobody.
        stage.refuses(
            "rejoin pg2",
            3,
            &["this node is a standby", "--clone replaces its data with a fresh clone"],
        );
        stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
        assert_eq!(stage.healthy()["primary"], "pg1");
        assert_eq!((stage.recovers("pg2"), stage.words("pg2")), ("t".into(), "a".into()));
        // The old data is beside it as it was, damage and all, and nothing else of ours was touched.
        let mark = format!("before-{}", file.replace('/', "-"));
        let look = format!(
            "ls -d {data}.cluster-old/{mark} {data}.cluster-old/base {data}.cluster-old/{file} {data}/{mark} {data}.cluster-new 2>&1 || :"
        );
        let there = stage.lab.ssh("pg2", &look);
        let found: Vec<&str> = there.lines().filter(|line| line.starts_with('/')).collect();
        assert_eq!(
            found,
            [format!("{data}.cluster-old/base"), format!("{data}.cluster-old/{mark}")],
            "{there}"
        );
        assert_eq!(stage.lab.ssh("pg2", ours), before);
    }
    // A clone of what is well is made, too, when it is asked for.
    let made = stage.lab.ssh("pg2", &format!("stat -c %i {data}"));
    stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.lab.ssh("pg2", &format!("stat -c %i {data}.cluster-old")), made);
    assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
    // Cut off between the two moves that put a clone in its place, and after them: the clone is whole, it is not made
    // again, and the old data, which is nowhere else, stays where it is.
    let inodes = || stage.lab.ssh("pg2", &format!("stat -c %i {data} {data}.cluster-old"));
    let before = inodes();
    for moved in ["mv DATA DATA.cluster-new", ":"] {
        let script = format!(
            "systemctl stop cluster-node; systemctl stop postgresql@15-main; {}; \
             echo placing >/var/lib/cluster/rewinding; systemctl start cluster-node",
            moved.replace("DATA", data)
        );
        stage.lab.ssh("pg2", &script);
        stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
        assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
        assert_eq!(inodes(), before, "{moved}");
    }
    // Without that note nobody knows that there is a clone: the old data is taken back, and cloned anew.
    let moved = format!(
        "systemctl stop cluster-node; systemctl stop postgresql@15-main; \
         rm -rf {data}.cluster-old; mv {data} {data}.cluster-old; systemctl start cluster-node"
    );
    stage.lab.ssh("pg2", &moved);
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!((stage.healthy()["primary"].clone(), stage.words("pg2")), (json!("pg1"), "a".into()));
}

/// A tablespace, and WAL on a disk of its own.
pub(super) fn a_clone_keeps_what_lies_elsewhere_apart(stage: &Stage) {
    for node in ["pg1", "pg2"] {
        stage.lab.ssh(node, "install -d -o postgres -g postgres -m 700 /srv/apart");
    }
    stage.lab.sql("pg1", "postgres", "create tablespace apart location '/srv/apart'");
    stage.lab.sql("pg1", "app", "create table elsewhere tablespace apart as select 1 as number");
    let data = "/var/lib/postgresql/15/main";
    stage.lab.ssh(
        "pg2",
        &format!(
            "cluster-node pause && systemctl stop postgresql@15-main && mv {data}/pg_wal /srv/wal && \
             ln -s /srv/wal {data}/pg_wal && systemctl start postgresql@15-main && cluster-node resume"
        ),
    );
    stage.healthy();
    let mut before = String::new();
    for round in 0..2 {
        let inodes = stage.lab.ssh("pg2", &format!("stat -c %i {data} /srv/apart /srv/wal"));
        stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
        assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
        let links = format!("readlink {data}/pg_wal {data}/pg_tblspc/*");
        assert_eq!(stage.lab.ssh("pg2", &links).trim(), "/srv/wal\n/srv/apart", "round {round}");
        // What was there is beside it, whole: one data directory that leads to the others.
        let old = format!("{data}.cluster-old");
        let kept = stage.lab.ssh("pg2", &format!("stat -Lc %i {old} {old}/pg_tblspc/* {old}/pg_wal"));
        assert_eq!(kept, inodes, "round {round}");
        assert_ne!(kept, before, "round {round}");
        before = kept;
    }
    // Cut off when the tablespace had been moved and the link to it not yet.
    let moved = format!(
        "systemctl stop cluster-node; systemctl stop postgresql@15-main; touch /var/lib/cluster/rewinding; \
         rm -rf {data}.cluster-old /srv/apart.cluster-old; mv /srv/apart /srv/apart.cluster-old; \
         systemctl start cluster-node"
    );
    stage.lab.ssh("pg2", &moved);
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
    assert_eq!(stage.healthy()["primary"], "pg1");
    // What is mounted is left as it is.
    let mounted = "mount --bind /srv/apart /srv/apart";
    stage.lab.ssh("pg2", mounted);
    stage.says("rejoin pg2 --clone", 1, &["/srv/apart", "it is a mount point"]);
    stage.lab.ssh("pg2", "umount /srv/apart");
    stage.wait_for(60, |status| node(status, "pg2")["state"] == "streaming");
    // And so is what somebody else has called by our names.
    stage.lab.ssh("pg2", "sed -i /apart/d /var/lib/cluster/vacated");
    stage.says("rejoin pg2 --clone", 1, &["/srv/apart.cluster-old is in the way"]);
    stage.lab.ssh("pg2", "rm -r /srv/apart.cluster-old");
    stage.says("rejoin pg2 --clone", 0, &["pg2 streams from pg1 ("]);
    assert_eq!(stage.lab.sql("pg2", "app", "select number from elsewhere").trim(), "1");
    assert_eq!(stage.healthy()["primary"], "pg1");
}
