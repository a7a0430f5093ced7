//! repmgr as it comes, with the settings of the tutorial of 2020 and a promote script: what the checks of this matrix
//! say of it. They must be able to fail; and its times stand beside ours in `docs/reliability.md`.

use std::time::Duration;

use cluster_contract::Millis;
use cluster_node::clock;
use serde_json::json;

use crate::fault::Fault;
use crate::invariants;
use crate::matrix;
use crate::stage::Stage;
use crate::writer::ADDRESS;

/// How long repmgr is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

/// No guard and no start check; the tutorial's `repmgr.conf`; PostgreSQL's own time-outs. `$id`, `$name`, `$host`,
/// `$address`, `$droplet`, `$api`.
const CONVERT: &str = r#"
set -e
systemctl disable -q --now cluster-node
systemctl stop cluster-watch
rm -rf /etc/systemd/system/postgresql@15-main.service.d /etc/systemd/system/postgresql@.service.d
systemctl daemon-reload
echo auto >/etc/postgresql/15/main/start.conf
cat >/etc/postgresql/15/main/conf.d/zz-tutorial.conf <<'END'
wal_sender_timeout = 60s
wal_receiver_timeout = 60s
wal_receiver_status_interval = 10s
wal_retrieve_retry_interval = 5s
tcp_user_timeout = 0
tcp_keepalives_idle = 0
tcp_keepalives_interval = 0
tcp_keepalives_count = 0
recovery_end_command = ''
END
cat >/etc/repmgr.conf <<'END'
node_id = $id
node_name = '$name'
conninfo = 'host=$host user=repmgr dbname=repmgr'
data_directory = '/var/lib/postgresql/15/main'
use_replication_slots = yes
reconnect_attempts = 5
reconnect_interval = 1
failover = automatic
pg_bindir = '/usr/lib/postgresql/15/bin'
promote_command = '/usr/local/bin/promote-standby.sh'
follow_command = 'repmgr standby follow -f /etc/repmgr.conf'
log_level = INFO
END
install -m 600 -o postgres /etc/cluster/failover-token /var/lib/postgresql/token
cat >/usr/local/bin/promote-standby.sh <<'END'
#!/bin/sh
repmgr standby promote -f /etc/repmgr.conf
curl -s -X POST -H "Authorization: Bearer $(cat /var/lib/postgresql/token)" -H 'Content-Type: application/json' \
    -d '{"type": "assign", "droplet_id": $droplet}' $api/v2/reserved_ips/$address/actions
END
chmod 755 /usr/local/bin/promote-standby.sh
systemctl reload postgresql@15-main
"#;

/// Makes the tutorial's cluster of ours.
pub(crate) fn convert(stage: &Stage) {
    let config = stage.on("pg1", "cat /etc/cluster/node.json").unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    for host in stage.hosts() {
        let members = config["nodes"].as_array().unwrap();
        let member = members.iter().find(|it| it["name"] == host.name.as_str()).unwrap();
        let script = CONVERT
            .replace("$id", &host.id.to_string())
            .replace("$name", &host.name)
            .replace("$host", member["host"].as_str().unwrap())
            .replace("$address", &stage.floating.to_string())
            .replace("$droplet", &host.droplet.to_string())
            .replace("$api", config["floating_ip"]["api_url"].as_str().unwrap());
        stage.on(&host.name, &script).unwrap();
    }
    let primary = stage.primary();
    repmgr(stage, &primary, "primary register --force").unwrap();
    whole(stage, &primary);
}

fn repmgr(stage: &Stage, node: &str, words: &str) -> Result<String, String> {
    stage.on(node, &format!("cd / && timeout 120 runuser -u postgres -- repmgr -f /etc/repmgr.conf {words}"))
}

fn host_of(stage: &Stage, node: &str) -> String {
    stage
        .sql(node, "repmgr", "select host(inet_server_addr())")
        .ok()
        .filter(|it| !it.is_empty())
        .unwrap_or_else(|| {
            let file = stage.on(node, "sed -n \"s/^conninfo = 'host=\\([^ ]*\\).*/\\1/p\" /etc/repmgr.conf");
            file.unwrap()
        })
}

/// What the tutorial has a person do after every failover: the other node is cloned anew.
fn whole(stage: &Stage, primary: &str) {
    let (other, host) = (stage.other(primary), host_of(stage, primary));
    stage.on(&other, "systemctl stop repmgrd").unwrap();
    stage
        .on(
            &other,
            "systemctl kill -s KILL postgresql@15-main; systemctl stop postgresql@15-main; \
             rm -rf /var/lib/postgresql/15/main",
        )
        .unwrap();
    repmgr(stage, &other, &format!("-h {host} -U repmgr -d repmgr standby clone --fast-checkpoint")).unwrap();
    stage.on(&other, "systemctl reset-failed; systemctl start postgresql@15-main").unwrap();
    repmgr(stage, &other, &format!("-h {host} -U repmgr -d repmgr standby register --force")).unwrap();
    repmgr(stage, "pg3", &format!("witness register --force -h {host} -U repmgr -d repmgr")).unwrap();
    for node in [primary, &other, "pg3"] {
        stage.on(node, "systemctl restart repmgrd").unwrap();
    }
    let since = clock::now();
    stage.streams(&other, since, Duration::from_secs(60)).unwrap();
    // repmgrd has to see everybody before it can lose somebody.
    std::thread::sleep(Duration::from_secs(15));
}

/// Waits for repmgr's failover: until a write on the node, and until one through the address.
fn failover(stage: &Stage, new: &str, cut: Millis) -> Result<(Millis, Millis), String> {
    let by = |it: &crate::writer::Attempt| it.acknowledged().is_some_and(|(node, _)| node == new);
    let writable = stage.wait("repmgr to promote", cut, PATIENCE, by)?;
    let address = stage.wait("the address", cut, PATIENCE, |it| &*it.target == ADDRESS && by(it))?;
    Ok((writable.ended - cut, address.ended - cut))
}

/// The invariants say what is wrong with it: each of these checks fails here.
pub(crate) fn breaks(stage: &Stage, runs: usize) {
    convert(stage);
    for (row, fault) in
        [("killed", Fault::KillPostgres as fn(String) -> Fault), ("powered-off", Fault::PowerOff)]
    {
        for run in 1..=runs {
            let (old, new) = (stage.primary(), stage.other(&stage.primary()));
            let cut = stage.inject(&fault(old.clone())).unwrap();
            let (writable, address) = failover(stage, &new, cut).unwrap();
            println!("repmgr: {row}, run {run}: writable after {writable} ms, address after {address} ms");
            matrix::write(&json!({"stock": row, "writable": writable, "address": address}));
            let mended = stage.mend().unwrap();
            if row == "powered-off" {
                // #766: the old primary returns as a second primary.
                let again = stage.wait("the old primary to write again", mended, PATIENCE, |it| {
                    it.acknowledged().is_some_and(|(node, _)| node == old)
                });
                again.expect("repmgr's old primary should have come back as a primary");
                std::thread::sleep(Duration::from_secs(3));
                let error = invariants::one_writer(&stage.writer.since(cut), &[]).unwrap_err();
                println!("repmgr: the old primary is back: {error}");
                invariants::stays_down(&stage.writer.since(cut), &old, &new).unwrap_err();
                matrix::write(&json!({"stock": "returns", "breach": error}));
            }
            whole(stage, &new);
        }
    }

    // #821: promotion across a single cut link, though the witness sees the primary.
    let (old, new) = (stage.primary(), stage.other(&stage.primary()));
    let cut = stage.inject(&Fault::between(&old, &new)).unwrap();
    let promoted = stage
        .wait("repmgr to promote", cut, PATIENCE, |it| it.acknowledged().is_some_and(|(node, _)| node == new))
        .expect("repmgr should have promoted across a cut link");
    std::thread::sleep(Duration::from_secs(3));
    let error = invariants::one_writer(&stage.writer.since(cut), &[]).unwrap_err();
    println!("repmgr: one link cut, promoted after {} ms: {error}", promoted.ended - cut);
    matrix::write(&json!({"stock": "link", "breach": error}));
    invariants::granted(&stage.journals(cut), 3).expect("no guard, no promotion in its journal");
    stage.mend().unwrap();
    whole(stage, &new);

    // #742, F4: an election that was cancelled is never held again.
    let (old, new) = (stage.primary(), stage.other(&stage.primary()));
    stage.inject(&Fault::PowerOff("pg3".into())).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    // Killed, not powered off: what vanishes without a word is noticed after a minute and a half only.
    let cut = stage.inject(&Fault::KillPostgres(old)).unwrap();
    std::thread::sleep(Duration::from_secs(45));
    assert!(
        stage.writer.first(cut + 2_000, |it| it.acknowledged().is_some()).is_none(),
        "promoted without a majority"
    );
    stage.lab.ask_power(stage.node("pg3").droplet, "power_on");
    let back = clock::now();
    let late = stage.wait("repmgr to promote", back, Duration::from_secs(90), |it| {
        it.acknowledged().is_some_and(|(node, _)| node == new)
    });
    assert!(late.is_err(), "repmgr should not have held its election again");
    println!("repmgr: the witness is back for 90 s, and nobody promotes");
    matrix::write(
        &json!({"stock": "cancelled", "breach": "no promotion within 90 s of the witness's return"}),
    );
}
