//! The files of the tutorial of 2020, as its page prints them: three hosts that exist become a cluster, and after a failover
//! the same command leaves everything as it is.

use super::pgdg::{Holder, POSTGRESQL_12, Packages, Repository};
use super::support::{Lab, PREPARED};
use super::{killed_until_another_is_primary, node};

#[test]
#[ignore = "needs root and a lab"]
fn the_tutorials_inventory_is_run_as_it_stands() {
    let tutorials = std::env::var_os(POSTGRESQL_12).is_some();
    let (version, image) = if tutorials { (12, "debian-12-x64") } else { (15, PREPARED) };
    let lab = Lab::start(47, image);
    let public = lab.key();
    let hosts = ["pg1", "pg2", "pg3"].map(|name| lab.bare_host(name, image, &public));
    if tutorials {
        let server = lab.bare_host("apt", image, &public);
        let packages = Packages::named_by(POSTGRESQL_12);
        let repository = Repository::start(&lab, &server, Holder::Archive, "bookworm", &packages, version);
        hosts.iter().for_each(|host| repository.is_trusted_by(&lab, host));
    }
    let home = lab.directory.path();
    // Every host's line is broken behind connection_host, and the next one follows at once.
    let mut text = "[all]\n".to_owned();
    for (index, (host, role)) in hosts.iter().zip(["primary", "standby", "witness"]).enumerate() {
        text.push_str(&format!(
            "{} ansible_host={} connection_host=\"{}\" \n\nnode_id={} role=\"{role}\"\n",
            host.name,
            host.address,
            host.private,
            index + 1
        ));
    }
    let inventory = lab.write("demo", &text);
    // What the page has, with the version of the image where nobody names packages of the page's own, and what a test needs: a key,
    // and host keys that are known.
    std::fs::create_dir_all(home.join("group_vars")).unwrap();
    std::fs::create_dir_all(home.join("host_vars")).unwrap();
    lab.write(
        "group_vars/all.yaml",
        &format!(
            "client_ip: \"203.0.113.7\"\nnode1_ip: \"{}\"\nnode2_ip: \"{}\"\nnode3_ip: \"{}\"\npg_version: \"{version}\"\n\
             ansible_ssh_private_key_file: {}\n",
            hosts[0].address,
            hosts[1].address,
            hosts[2].address,
            home.join("key").display()
        ),
    );
    for host in &hosts {
        lab.write(&format!("host_vars/{}.yaml", host.name), &format!("cluster_host_key: {}\n", host.key));
    }
    let up = ["up", "-i", &inventory, "-e", "ansible_ssh_user=root"];
    let run = lab.cluster(&up).ok();
    assert!(
        run.stderr.contains("lines without a host are read as the rest of the host's line"),
        "{}",
        run.stderr
    );
    assert!(lab.cluster(&up).ok().last_line().contains("nothing to do"));
    lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);

    lab.sql("pg1", "postgres", "create table kept as select generate_series(1, 1000) a");
    lab.wait_for_status(&inventory, 30, |status| node(status, "pg2")["lag_bytes"] == 0);
    killed_until_another_is_primary(&lab, &inventory, version, "pg1", "pg2");
    lab.wait_for_status(&inventory, 60, |status| status["primary"] == "pg2" && status["healthy"] == true);
    let run = lab.cluster(&up).ok();
    println!("after a failover: {}", run.last_line());
    let (status, _) = lab.wait_for_status(&inventory, 30, |status| status["healthy"] == true);
    assert_eq!(status["primary"], "pg2", "the inventory's roles are those of the beginning");
    assert_eq!(lab.sql("pg2", "postgres", "select count(*) from kept"), "1000");
    lab.cluster(&["down", "-i", &inventory, "--yes"]).ok();
    lab.stop();
}
