//! Two data nodes and no witness: one lost node leaves no majority.

use std::time::Duration;

use cluster_node::clock;

use crate::fault::Fault;
use crate::stage::{BOOTED, Stage, Third, nodes};
use crate::support::PREPARED;
use crate::trial::{PROMOTED, REDUNDANT};

pub(crate) fn play(mut stage: Stage) {
    let old = stage.primary();
    let new = stage.other(&old);
    // `status` says so, and so does the guard.
    assert_ne!(stage.lab.status(&stage.inventory)["failover"]["automatic"], true);
    assert_eq!(stage.guard(&old).unwrap()["failover"], false);

    // The standby is lost: the primary goes on, for longer than a lease.
    let cut = stage.inject(&Fault::PowerOff(new.clone())).unwrap();
    std::thread::sleep(Duration::from_secs(25));
    let late = clock::now();
    stage
        .wait("the primary to go on", late, Duration::from_secs(5), |it| it.acknowledged().is_some())
        .unwrap();
    let longest = crate::invariants::gap(&stage.writer.since(cut));
    println!("standby lost: the primary goes on, longest gap {longest} ms");
    assert!(longest < 5_000, "the primary stopped for {longest} ms when the standby was lost");

    // PostgreSQL alone ends meanwhile: nobody could give the lease back, so it is kept.
    for end in ["systemctl kill -s KILL postgresql@15-main", "systemctl stop postgresql@15-main"] {
        stage.lab.ssh(&old, end);
        let ended = clock::now();
        let first = stage
            .wait("PostgreSQL to be started again", ended, PROMOTED, |it| it.acknowledged().is_some())
            .unwrap();
        assert_eq!(first.acknowledged().unwrap().0, old);
        println!("standby lost, `{end}`: writable again after {} ms", first.ended - ended);
    }
    let mended = stage.mend().unwrap();
    stage.streams(&new, mended, BOOTED).unwrap();
    stage.redundant(mended, REDUNDANT).unwrap();

    // The primary is lost: nobody promotes, and it goes on when it is back.
    stage.inject(&Fault::PowerOff(old.clone())).unwrap();
    let off = stage.is_off(&old).unwrap();
    std::thread::sleep(Duration::from_secs(30));
    assert!(stage.writer.first(off, |it| it.acknowledged().is_some()).is_none(), "somebody promoted");
    let mended = stage.mend().unwrap();
    let first =
        stage.wait("the primary to come back", mended, BOOTED, |it| it.acknowledged().is_some()).unwrap();
    assert_eq!(first.acknowledged().unwrap().0, old);
    println!("primary lost: nobody promotes; back as primary after {} ms", first.ended - mended);
    stage.redundant(mended, REDUNDANT).unwrap();

    // A third node: automatic failover.
    stage.inventory = stage.lab.inventory("demo.yaml", PREPARED, &nodes(Third::Witness));
    stage.lab.cluster(&["up", "-i", &stage.inventory]).ok();
    stage.look();
    stage.redundant(clock::now(), REDUNDANT).unwrap();
    assert_eq!(stage.guard(&old).unwrap()["failover"], true);
    let cut = stage.inject(&Fault::PowerOff(old.clone())).unwrap();
    let first = stage
        .wait("the standby to take over", cut, PROMOTED, |it| {
            it.acknowledged().is_some_and(|(node, _)| node == new)
        })
        .unwrap();
    println!("with a witness: failover in {} ms", first.ended - cut);
    let mended = stage.mend().unwrap();
    stage.streams(&old, mended, BOOTED).unwrap();
    stage.redundant(mended, REDUNDANT).unwrap();
    crate::invariants::one_writer(&stage.writer.since(0), &[]).unwrap();
}
