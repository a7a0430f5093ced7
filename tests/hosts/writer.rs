//! An application that writes through the floating IP while the cluster is worked on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster::check;

use super::support::{Lab, block_on};

/// What is shorter may be this machine's load: one attempt may itself take as long, for a fork or a commit that is slow. No
/// change of roles hides in it: who takes writes is asked with each of them.
const GAP: Duration = Duration::from_secs(15);
/// No switchover and no failover is longer, on a machine that does other things as well.
const LONGEST: Duration = Duration::from_secs(30);

/// Writes once and again, each time on a connection of its own.
pub(super) struct Writer {
    began: Instant,
    stop: Arc<AtomicBool>,
    writes: JoinHandle<Written>,
}

/// What it came to.
pub(super) struct Written {
    count: usize,
    longest: Duration,
    /// The long times in which nothing could be written.
    gaps: Vec<Duration>,
    /// The nodes that took writes, one after the other.
    nodes: Vec<String>,
}

impl Written {
    /// Nothing was written for so long.
    fn nothing_for(&mut self, gap: Duration) {
        self.gaps.extend(Some(gap).filter(|gap| *gap >= GAP));
        self.longest = self.longest.max(gap);
    }
}

impl Writer {
    pub(super) fn start(lab: &Lab) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, address, password) = (stop.clone(), lab.floating_ip().to_string(), lab.check_password());
        let writes = std::thread::spawn(move || {
            let mut written =
                Written { count: 0, longest: Duration::ZERO, gaps: Vec::new(), nodes: Vec::new() };
            let mut last = Instant::now();
            while !ended.load(Ordering::Relaxed) {
                let wrote = check::write_through(&address, 5432, &password, Duration::from_secs(1));
                if let Ok(one) = block_on(wrote) {
                    written.nothing_for(last.elapsed());
                    written.nodes.extend(Some(one.node).filter(|node| written.nodes.last() != Some(node)));
                    (written.count, last) = (written.count + 1, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // What has not ended is a gap, too.
            written.nothing_for(last.elapsed());
            written
        });
        Writer { began: Instant::now(), stop, writes }
    }

    /// Ends it, and prints what there was while `what` happened: no more gaps, nor changes of roles, than `most`,
    /// and where none were due no restart either.
    pub(super) fn stop(self, lab: &Lab, what: &str, most: usize) {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.writes.join().unwrap();
        let Written { count, longest, gaps, nodes } = &written;
        println!(
            "while {what}: {count} writes by {nodes:?}, the longest gap {:.2} s, gaps {gaps:.2?}",
            longest.as_secs_f64()
        );
        assert!(*count > 100, "the application has hardly written");
        if most == 0 {
            let since = self.began.elapsed().as_secs();
            let sql = format!("select pg_postmaster_start_time() < now() - interval '{since} s'");
            assert_eq!(lab.sql(&nodes[0], "postgres", &sql), "t", "PostgreSQL was restarted");
        }
        assert!(nodes.len() <= most + 1, "at most {most} changes of roles were due");
        assert!(gaps.len() <= most && *longest < LONGEST, "at most {most} gaps were due");
    }
}
