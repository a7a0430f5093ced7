//! The lab's hosts, for real: these tests boot machines. They need root, the programs that
//! `cluster lab start` asks for, and a Debian mirror for the first of them. Each has a lab of its own.
//!
//! `cargo nextest run --test lab_hosts --run-ignored only`

#[allow(dead_code, unused_imports, reason = "the tests of a cluster use more of it")]
mod support;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{Droplet, Lab, dial, greeted, is_reset, is_silent, is_unreachable, within};

const IMAGE: &str = "debian-12-x64";

#[test]
#[ignore = "boots machines; needs root"]
fn a_stop_leaves_nothing() {
    let lab = Lab::new("t-stop", 8581, 231);
    let before = lab.traces();
    assert_eq!(before, "", "something of an earlier run is there");
    lab.begin(&[]);
    let host = lab.boot(IMAGE, &["pg1"]).remove(0);
    lab.floating_at(host.id);
    host.ssh("echo here > /root/file");
    let during = lab.traces();
    for trace in ["overlay", "unreachable", "cluster_lab_t_stop", "cluster-lab-t-stop", "systemd-nspawn"] {
        assert!(during.contains(trace), "no {trace} in\n{during}");
    }
    lab.stop();
    // And again, when there is nothing to stop.
    lab.stop();
}

#[test]
#[ignore = "boots machines; needs root"]
fn what_a_killed_daemon_leaves_is_taken_up_or_cleared_away() {
    let lab = Lab::new("t-kill", 8582, 232);
    lab.begin(&[]);
    let host = lab.boot(IMAGE, &["pg1"]).remove(0);
    let boot = host.ssh("cat /proc/sys/kernel/random/boot_id");
    lab.begin(&[]);
    assert_eq!(
        host.ssh("cat /proc/sys/kernel/random/boot_id"),
        boot,
        "a start of what runs disturbs nothing"
    );

    lab.kill_daemon();
    assert_eq!(host.ssh("cat /proc/sys/kernel/random/boot_id"), boot, "droplets outlive the daemon");
    assert_eq!(lab.lab_status()["running"], false);
    let listed = || {
        let labs = lab.cluster(&["lab", "list", "--json"]).json();
        labs.as_array().unwrap().iter().find(|lab| lab["name"] == "t-kill").unwrap().clone()
    };
    assert_eq!(listed(), json!({"name": "t-kill", "running": false, "api_port": 8582, "spaces_port": 9582}));
    lab.begin(&["--resume"]);
    assert_eq!(lab.lab_status()["droplets"][0]["state"], "active");
    assert_eq!(listed()["running"], true);
    assert_eq!(host.ssh("cat /proc/sys/kernel/random/boot_id"), boot);
    lab.act(host.id, "power_off");
    assert!(is_unreachable(host.address, 22));

    // Half of a network is none.
    lab.kill_daemon();
    nft("delete table bridge cluster_lab_t_kill");
    lab.begin(&["--resume"]);
    nft("list table bridge cluster_lab_t_kill");
    lab.act(host.id, "power_on");
    within("the host to be up again", || host.try_ssh("true").is_ok().then_some(()));

    lab.kill_daemon();
    lab.begin(&[]);
    assert_eq!(lab.lab_status()["droplets"], json!([]));
    assert!(!lab.traces().contains("overlay"), "{}", lab.traces());
    lab.stop();
}

/// Containers, virtual machines and VPNs want this machine to forward as well, and do not say so again when it no longer does.
#[test]
#[ignore = "changes this machine's forwarding; needs root"]
fn forwarding_stays_for_those_who_have_come_since() {
    const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
    let forwards = || std::fs::read_to_string(FORWARDING).unwrap().trim() == "1";
    let before = std::fs::read_to_string(FORWARDING).unwrap();
    std::fs::write(FORWARDING, "0").unwrap();
    let lab = Lab::new("t-forward", 8589, 239);
    lab.begin(&[]);
    assert!(forwards());
    lab.stop();
    assert!(!forwards(), "nobody else needs it");

    nft("add table ip t_here; add chain ip t_here out { type nat hook postrouting priority 100; }");
    lab.begin(&[]);
    lab.stop();
    assert!(!forwards(), "who was there before it did not need it");

    lab.begin(&[]);
    nft("add table ip t_since; add chain ip t_since forward { type filter hook forward priority 0; }");
    let stopped = lab.lab(&["stop"]).ok();
    let kept = forwards();
    nft("delete table ip t_here; delete table ip t_since");
    std::fs::write(FORWARDING, before).unwrap();
    assert!(kept);
    assert!(stopped.stderr.contains("goes on forwarding packets"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("(ip t_since forward)"), "{}", stopped.stderr);
}

fn nft(commands: &str) {
    assert!(Command::new("nft").arg(commands).status().unwrap().success(), "{commands}");
}

#[test]
#[ignore = "boots machines; needs root"]
fn a_power_cut_is_silent_and_keeps_the_disk() {
    let lab = Lab::new("t-power", 8583, 233);
    lab.begin(&[]);
    let host = lab.boot(IMAGE, &["pg1"]).remove(0);
    host.ssh("echo kept > /root/file; touch /run/gone");
    let connection = greeted(host.address);
    lab.act(host.id, "power_off");
    assert_eq!(lab.lab_status()["droplets"][0]["state"], "off");
    assert!(is_silent(&connection, Duration::from_secs(2)), "no farewell leaves a host without power");
    assert!(is_unreachable(host.address, 22));

    lab.act(host.id, "power_on");
    host.wait();
    assert_eq!(host.ssh("cat /root/file; ls /run/gone 2>/dev/null; cloud-init status"), "kept\nstatus: done");

    // From inside: reboot comes back, poweroff does not, and the API notices.
    let boot = host.ssh("cat /proc/sys/kernel/random/boot_id");
    let _ = host.run("systemctl reboot");
    within("a reboot from inside", || {
        host.try_ssh("cat /proc/sys/kernel/random/boot_id").is_ok_and(|id| id != boot).then_some(())
    });
    let _ = host.run("systemctl poweroff");
    within("off by itself", || (lab.lab_status()["droplets"][0]["state"] == "off").then_some(()));
    assert!(is_unreachable(host.address, 22));
}

#[test]
#[ignore = "boots machines; needs root"]
fn a_floating_address_moves_and_drops_what_was_connected() {
    let lab = Lab::new("t-float", 8584, 234);
    lab.begin(&[]);
    let hosts = lab.boot(IMAGE, &["pg1", "pg2"]);
    let floating = lab.floating_at(hosts[0].id);
    // The lowest address of the range is given out first: this one leads nowhere.
    let nowhere: std::net::Ipv4Addr = "10.234.3.200".parse().unwrap();
    assert_eq!(dial(nowhere, 22).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    let connection = dial(floating, 22).unwrap();
    assert!(hosts[0].ssh("ss -Htn sport = :22").contains("10.234.0.1:"), "clients are seen as the gateway");
    for host in &hosts {
        assert_eq!(host.dial(floating, 22), "ok", "{} dials the floating address", host.name);
        assert_eq!(host.dial(nowhere, 22), "ConnectionRefusedError");
    }
    assert_eq!(lab.name_behind(floating), "pg1");

    lab.assign(floating, hosts[1].id);
    assert!(is_reset(&connection), "what was connected is dropped");
    assert_eq!(lab.name_behind(floating), "pg2");
    for host in &hosts {
        assert_eq!(host.dial(floating, 22), "ok");
    }
    lab.unassign(floating);
    assert_eq!(dial(floating, 22).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
#[ignore = "boots machines; needs root"]
fn two_labs_stand_side_by_side() {
    let one = Lab::new("t-one", 8585, 235);
    let two = Lab::new("t-two", 8586, 236);
    one.begin(&[]);
    let host = one.boot(IMAGE, &["pg1"]).remove(0);
    let refused = two.lab(&["start", "--port", "8586", "--subnet", "10.235.0.0/16"]);
    assert!(refused.code != 0 && refused.stderr.contains("10.235.0.0/24 is in use"), "{refused:?}");
    let refused = two.lab(&["start", "--port", "8585", "--subnet", "10.236.0.0/16"]);
    assert!(refused.code != 0 && refused.stderr.contains("port 8585 is not free"), "{refused:?}");
    assert_eq!(two.traces(), "");

    // As another start or stop does it: this one waits, and says so.
    let busy = File::open("/var/lib/cluster-lab").unwrap();
    busy.lock().unwrap();
    let words =
        ["lab", "start", "--port", "8586", "--subnet", "10.236.0.0/16", "--no-delays", "--name", "t-two"];
    let mut start = two.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(start.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let waits = lines.any(|line| {
        said.push(line);
        said[said.len() - 1].contains("waiting for another `cluster lab start` or `stop`")
    });
    assert!(waits, "it did not wait: {said:?}");
    // It still does.
    thread::sleep(Duration::from_secs(2));
    assert!(start.try_wait().unwrap().is_none(), "it did not wait: {said:?}");
    drop(busy);
    said.extend(lines);
    assert!(start.wait().unwrap().success(), "{said:?}");
    let other = two.boot(IMAGE, &["pg1"]).remove(0);
    assert_ne!(host.dial(other.address, 22), "ok", "no way leads from one into the other");
    two.stop();
    assert_eq!(host.ssh("hostname"), "pg1", "the other one has not noticed");
    assert!(dial(host.address, 22).is_ok());
}

#[test]
#[ignore = "boots machines; needs root"]
fn every_image_boots_with_what_its_user_data_says() {
    let lab = Lab::new("t-image", 8587, 237);
    lab.begin(&[]);
    for (image, version) in [("debian-11-x64", "11."), ("debian-12-x64", "12."), ("debian-13-x64", "13.")] {
        let host = lab.boot(image, &["host"]).remove(0);
        // Every connection so far has checked the host key that the user data gave.
        assert_eq!(host.ssh("ls /etc/ssh/ssh_host_*_key"), "/etc/ssh/ssh_host_ed25519_key");
        assert_eq!(
            host.ssh("cloud-init status --wait | tail -n 1; cat /root/ran"),
            "status: done\nby cloud-init"
        );
        assert!(host.ssh("cat /etc/debian_version").starts_with(version));
        assert_eq!(host.ssh("systemctl is-system-running --wait"), "running");
        assert!(host.run("command -v postgres psql").is_err(), "no PostgreSQL");
        // A unit's processes can be found and killed as a group.
        let group = "/sys/fs/cgroup/system.slice/victim.service";
        host.ssh("systemd-run -q --unit=victim sh -c 'setsid sleep 99 & setsid sleep 98 & wait'");
        assert_eq!(
            within("three processes", || {
                let count = host.ssh(&format!("wc -l < {group}/cgroup.procs"));
                (count == "3").then_some(count)
            }),
            "3"
        );
        host.ssh("systemctl kill -s KILL victim");
        within("none", || host.try_ssh(&format!("! grep -q . {group}/cgroup.procs 2>/dev/null")).ok());
        assert_eq!(host.ssh("systemd-run -q --wait --pipe echo through"), "through");
        // The API by the same URL as the operator's, and the metadata.
        let code = "curl -s -o /dev/null -w '%{http_code}'";
        assert_eq!(host.ssh(&format!("{code} http://127.0.0.1:8587/v2/account")), "401");
        assert_eq!(host.ssh("curl -s http://169.254.169.254/metadata/v1/id"), host.id.to_string());
        lab.delete(host.id);
    }
}

#[test]
#[ignore = "boots machines; needs root"]
fn cuts_and_frozen_hosts() {
    let lab = Lab::new("t-cuts", 8588, 238);
    lab.begin(&[]);
    let hosts = lab.boot(IMAGE, &["pg1", "pg2", "pg3"]);
    let [one, two, three] = &hosts[..] else { panic!("three droplets") };
    let reach = |from: &Droplet, to: &Droplet| (from.dial(to.address, 22), from.dial(to.private, 22));
    let (ok, lost) =
        (("ok".to_owned(), "ok".to_owned()), ("TimeoutError".to_owned(), "TimeoutError".to_owned()));

    lab.lab(&["cut", "pg1", "pg2"]).ok();
    assert_eq!((reach(one, two), reach(two, one)), (lost.clone(), lost.clone()));
    assert_eq!((reach(one, three), reach(three, two)), (ok.clone(), ok.clone()));
    lab.lab(&["heal"]).ok();
    assert_eq!(reach(one, two), ok);

    lab.lab(&["cut", "pg1", "pg2", "--reject"]).ok();
    let refused = ("ConnectionRefusedError".to_owned(), "ConnectionRefusedError".to_owned());
    assert_eq!((reach(one, two), reach(two, one)), (refused.clone(), refused));
    lab.lab(&["heal"]).ok();

    lab.lab(&["cut", "pg1", "api"]).ok();
    assert_eq!(one.dial(lab.gateway(), 8588), "TimeoutError");
    assert_eq!(two.dial(lab.gateway(), 8588), "ok");
    lab.lab(&["heal"]).ok();
    assert_eq!(one.dial(lab.gateway(), 8588), "ok");

    lab.lab(&["cut", "pg1"]).ok();
    assert!(is_unreachable(one.address, 22));
    assert_eq!(reach(two, one), lost);
    lab.lab(&["heal"]).ok();
    assert_eq!(reach(two, one), ok);

    lab.lab(&["freeze", "pg1"]).ok();
    assert_eq!(lab.lab_status()["droplets"][0]["state"], "frozen");
    assert!(is_unreachable(one.address, 22));
    lab.lab(&["thaw", "pg1"]).ok();
    assert!(dial(one.address, 22).is_ok());

    // Power ends it as well.
    lab.lab(&["freeze", "pg1"]).ok();
    lab.act(one.id, "power_off");
    lab.act(one.id, "power_on");
    one.wait();
    assert_eq!(reach(two, one), ok);
}
