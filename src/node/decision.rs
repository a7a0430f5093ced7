//! May this node start, or promote? Pure: what was seen in, yes or no with a reason out.

/// What was seen of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Whether it is the witness.
    pub witness: bool,
    /// What its PostgreSQL said; none if it did not answer.
    pub answer: Option<Answer>,
}

/// What a PostgreSQL says of itself and of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The node that repmgr's table, as this node has it, calls the active primary.
    pub primary: Option<u32>,
}

/// Yes or no, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes?
    pub allowed: bool,
    /// Why.
    pub why: String,
}

fn yes(why: impl Into<String>) -> Verdict {
    Verdict { allowed: true, why: why.into() }
}

fn no(why: impl Into<String>) -> Verdict {
    Verdict { allowed: false, why: why.into() }
}

/// A majority of all nodes, this one included, must have answered, and none may take writes.
fn quorum(peers: &[Peer]) -> Result<(), Verdict> {
    if let Some(primary) =
        peers.iter().find(|it| !it.witness && it.answer.as_ref().is_some_and(|it| !it.in_recovery))
    {
        return Err(no(format!("{} takes writes", primary.name)));
    }
    let (all, seen) = (peers.len() + 1, peers.iter().filter(|it| it.answer.is_some()).count() + 1);
    if seen * 2 <= all {
        let silent: Vec<&str> =
            peers.iter().filter(|it| it.answer.is_none()).map(|it| it.name.as_str()).collect();
        return Err(no(format!(
            "{seen} of {all} nodes are not a majority: no answer from {}",
            silent.join(", ")
        )));
    }
    Ok(())
}

/// Whether a PostgreSQL whose data directory is not a standby's may start on node `me`.
pub fn may_start(me: u32, peers: &[Peer]) -> Verdict {
    if let Err(verdict) = quorum(peers) {
        return verdict;
    }
    for peer in peers {
        if let Some(other) = peer.answer.as_ref().and_then(|answer| answer.primary)
            && other != me
        {
            return no(format!("{} says that node {other} is primary", peer.name));
        }
    }
    yes("a majority answered, and nobody else was made primary")
}

/// Whether a standby may promote.
pub fn may_promote(peers: &[Peer]) -> Verdict {
    match quorum(peers) {
        Err(verdict) => verdict,
        Ok(()) if peers.is_empty() => no("there is no other node"),
        Ok(()) => yes("a majority answered, and none of it takes writes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, answer: Option<(bool, Option<u32>)>) -> Peer {
        let answer = answer.map(|(in_recovery, primary)| Answer { in_recovery, primary });
        Peer { name: name.into(), witness: name == "pg3", answer }
    }

    #[test]
    fn an_old_primary_starts_only_when_a_majority_knows_of_no_other() {
        // Who is asked, what they say, and whether pg1 (node 1) may start.
        let cases = [
            ("all were off and are back", Some((true, Some(1))), Some((false, Some(1))), true),
            ("pg2 was promoted", Some((false, Some(2))), Some((false, Some(2))), false),
            ("pg2 was promoted and is unreachable", None, Some((false, Some(2))), false),
            (
                "pg2 was promoted, the witness has not heard of it",
                Some((false, Some(2))),
                Some((false, Some(1))),
                false,
            ),
            ("nobody answers", None, None, false),
            ("the witness alone answers, and has seen no other primary", None, Some((false, Some(1))), true),
            ("a witness without a memory", None, Some((false, None)), true),
        ];
        for (what, pg2, pg3, allowed) in cases {
            let verdict = may_start(1, &[peer("pg2", pg2), peer("pg3", pg3)]);
            assert_eq!(verdict.allowed, allowed, "{what}: {}", verdict.why);
        }
        assert!(may_start(1, &[]).allowed, "a cluster of one");
    }

    #[test]
    fn a_standby_promotes_only_with_a_majority_that_has_no_primary() {
        assert!(may_promote(&[peer("pg1", None), peer("pg3", Some((false, Some(1))))]).allowed);
        assert!(!may_promote(&[peer("pg1", None), peer("pg3", None)]).allowed, "alone");
        assert!(
            !may_promote(&[peer("pg1", Some((false, Some(1)))), peer("pg3", None)]).allowed,
            "the primary lives"
        );
        assert!(!may_promote(&[peer("pg1", None)]).allowed, "one of two");
        assert!(!may_promote(&[]).allowed);
    }
}
