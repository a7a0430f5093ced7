//! Messages between guards: sealed with the cluster's key, in clear, and worth nothing when they are sent again.
//!
//! A packet is JSON and HMAC-SHA256 of it. Every guard draws a session number when it starts, and counts its packets.
//! A packet names the receiver's session and echoes the last packet that the sender has read of it. It is taken if it
//! names the receiver's present session and its counter is higher than any before it. A session that is new to the
//! receiver is believed only from a packet that echoes one which the receiver has sent since it began to believe the
//! session before: whatever was sent under an older one, even if it was held back until now, cannot do that.
//!
//! A packet that proves nothing is answered with a greeting, which echoes it and leads to the proof. It changes nothing
//! else, and greetings are few, so that packets that somebody has kept neither deafen a guard nor set off a storm.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use cluster_contract::{Millis, NodeId};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::lease::Message;

/// Bytes of the seal.
const SEAL: usize = 32;
/// A peer is greeted no more often than this, whatever comes in its name.
const GREETING_INTERVAL: Millis = 1_000;

#[derive(Serialize, Deserialize)]
struct Packet {
    from: NodeId,
    to: NodeId,
    session: u64,
    counter: u64,
    /// The receiver's session, as the sender knows it.
    yours: Option<u64>,
    /// The last packet of that session that the sender has read. A guard of an earlier version does not tell.
    #[serde(default)]
    echo: Option<u64>,
    message: Option<Message>,
}

/// What came out of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// A message, fresh and from whom it says.
    Message(NodeId, Message),
    /// The two do not know each other's sessions: greet it, so that it can say it again.
    Greet(NodeId),
    /// Nothing that concerns this guard.
    Nothing,
}

/// Names one packet.
#[derive(Clone, Copy)]
struct PacketId {
    session: u64,
    counter: u64,
}

struct Peer {
    address: SocketAddr,
    /// The newest packet of the session that the peer has proved to be in.
    proved: Option<PacketId>,
    /// What has been read since and proves nothing: the next greeting echoes it.
    claimed: Option<PacketId>,
    /// Packets sent to it.
    sent: u64,
    /// Those that had been sent when its session was believed.
    sent_before: u64,
    greeted: Option<Millis>,
    heard: Option<Millis>,
}

/// One guard's side of all conversations.
pub struct Wire {
    key: Vec<u8>,
    me: NodeId,
    session: u64,
    peers: BTreeMap<NodeId, Peer>,
}

impl Wire {
    /// Begins a session. `session` must be random.
    ///
    /// # Errors
    /// When the key is too short to be one.
    pub fn new(
        key: &str,
        me: NodeId,
        session: u64,
        peers: impl Iterator<Item = (NodeId, SocketAddr)>,
    ) -> Result<Wire> {
        let key = key.trim().as_bytes().to_vec();
        if key.len() < 32 {
            bail!("the cluster's key has {} bytes instead of 32", key.len());
        }
        let peer = |(id, address)| {
            let peer = Peer {
                address,
                proved: None,
                claimed: None,
                sent: 0,
                sent_before: 0,
                greeted: None,
                heard: None,
            };
            (id, peer)
        };
        Ok(Wire { key, me, session, peers: peers.map(peer).collect() })
    }

    /// When a peer was last heard of, by a packet that is fresh.
    pub fn heard(&self, peer: NodeId) -> Option<Millis> {
        self.peers.get(&peer)?.heard
    }

    fn seal(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut seal = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length is a key's");
        seal.update(bytes);
        seal
    }

    /// A packet for `to`; without a message, a greeting.
    ///
    /// # Errors
    /// When `to` is no peer.
    pub fn pack(&mut self, to: NodeId, message: Option<Message>) -> Result<Vec<u8>> {
        let peer = self.peers.get_mut(&to).context("no such peer")?;
        peer.sent += 1;
        let packet_id = match message {
            None => peer.claimed.take().or(peer.proved),
            Some(_) => peer.proved.or(peer.claimed),
        };
        let packet = Packet {
            from: self.me,
            to,
            session: self.session,
            counter: peer.sent,
            yours: packet_id.map(|packet_id| packet_id.session),
            echo: packet_id.map(|packet_id| packet_id.counter),
            message,
        };
        let mut bytes = serde_json::to_vec(&packet)?;
        let seal = self.seal(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&seal);
        Ok(bytes)
    }

    /// Opens a packet that came from this address at this time.
    pub fn open(&mut self, bytes: &[u8], from: SocketAddr, now: Millis) -> Opened {
        let Some((body, seal)) = bytes.len().checked_sub(SEAL).map(|middle| bytes.split_at(middle)) else {
            return Opened::Nothing;
        };
        if self.seal(body).verify_slice(seal).is_err() {
            return Opened::Nothing;
        }
        let Ok(packet) = serde_json::from_slice::<Packet>(body) else { return Opened::Nothing };
        let session = self.session;
        let Some(peer) = self.peers.get_mut(&packet.from).filter(|peer| {
            packet.to == self.me && peer.address.ip() == from.ip() && peer.address.port() == from.port()
        }) else {
            return Opened::Nothing;
        };
        let packet_id = PacketId { session: packet.session, counter: packet.counter };
        let fresh = match peer.proved {
            Some(proved) if proved.session == packet_id.session => packet_id.counter > proved.counter,
            _ if packet.yours != Some(session)
                || packet.echo.is_some_and(|echo| echo <= peer.sent_before) =>
            {
                return peer.greet(packet.from, packet_id, now);
            }
            _ => {
                peer.sent_before = peer.sent;
                true
            }
        };
        if packet.yours != Some(session) {
            return peer.greet(packet.from, packet_id, now);
        }
        if !fresh {
            return Opened::Nothing;
        }
        (peer.proved, peer.claimed, peer.heard) = (Some(packet_id), None, Some(now));
        packet.message.map_or(Opened::Nothing, |message| Opened::Message(packet.from, message))
    }
}

impl Peer {
    /// A greeting that echoes this packet, unless there was one a moment ago.
    fn greet(&mut self, id: NodeId, packet_id: PacketId, now: Millis) -> Opened {
        if self.greeted.is_some_and(|greeted| now < greeted + GREETING_INTERVAL) {
            return Opened::Nothing;
        }
        (self.claimed, self.greeted) = (Some(packet_id), Some(now));
        Opened::Greet(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn address(id: NodeId) -> SocketAddr {
        ([10, 0, 0, u8::try_from(id).unwrap()], cluster_contract::paths::GUARD_PORT).into()
    }

    fn wire(me: NodeId, session: u64) -> Wire {
        let peers = [1, 2].into_iter().filter(|peer| *peer != me).map(|peer| (peer, address(peer)));
        Wire::new(KEY, me, session, peers).unwrap()
    }

    fn release(term: u64) -> Message {
        Message::Release { term, successor: None, end: None }
    }

    /// Two guards, and what is between them.
    struct Pair {
        wires: [Wire; 2],
        now: Millis,
        sessions: u64,
        terms: u64,
        /// The packets of both, as somebody in between keeps them: the receiver, and the bytes.
        kept: Vec<(usize, Vec<u8>)>,
        /// How many runs of its sender there had been, by message.
        runs_at: BTreeMap<u64, u64>,
        runs: [u64; 2],
        /// By receiver: the newest run of the other that it has heard in this run of its own.
        newest: [u64; 2],
        delivered: Vec<u64>,
    }

    impl Pair {
        fn new() -> Pair {
            Pair {
                wires: [wire(1, 1001), wire(2, 1002)],
                now: 10_000,
                sessions: 1002,
                terms: 0,
                kept: Vec::new(),
                runs_at: BTreeMap::new(),
                runs: [0; 2],
                newest: [0; 2],
                delivered: Vec::new(),
            }
        }

        fn id(side: usize) -> NodeId {
            NodeId::try_from(side + 1).unwrap()
        }

        /// A packet arrives, and so does every greeting that follows from it, unless `lost`. Returns how many there were.
        fn arrive(&mut self, mut to: usize, mut packet: Vec<u8>, lost: bool) -> usize {
            for count in 0.. {
                match self.wires[to].open(&packet, address(Pair::id(1 - to)), self.now) {
                    Opened::Nothing => return count,
                    Opened::Message(_, Message::Release { term, .. }) => {
                        assert!(!self.delivered.contains(&term), "{term} is delivered a second time");
                        self.delivered.push(term);
                        assert!(self.runs_at[&term] >= self.newest[to], "{term} is of a run that has ended");
                        self.newest[to] = self.runs_at[&term];
                        return count;
                    }
                    Opened::Message(_, message) => panic!("nobody has sent {message:?}"),
                    Opened::Greet(peer) => {
                        packet = self.wires[to].pack(peer, None).unwrap();
                        to = 1 - to;
                        self.kept.push((to, packet.clone()));
                        if lost {
                            return count + 1;
                        }
                    }
                }
            }
            unreachable!("greetings are bounded")
        }

        /// A message; whether it was delivered.
        fn send(&mut self, from: usize, lost: bool, greetings_lost: bool) -> bool {
            self.terms += 1;
            let term = self.terms;
            self.runs_at.insert(term, self.runs[from]);
            let packet = self.wires[from].pack(Pair::id(1 - from), Some(release(term))).unwrap();
            self.kept.push((1 - from, packet.clone()));
            if !lost {
                self.arrive(1 - from, packet, greetings_lost);
            }
            self.delivered.contains(&term)
        }

        fn restart(&mut self, side: usize) {
            self.sessions += 1;
            self.wires[side] = wire(Pair::id(side), self.sessions);
            (self.runs[side], self.newest[side]) = (self.runs[side] + 1, 0);
        }

        /// A round of messages both ways, a second later; whether both were delivered.
        fn round(&mut self) -> bool {
            self.now += GREETING_INTERVAL;
            let there = self.send(0, false, false);
            self.send(1, false, false) && there
        }

        fn meet(&mut self) {
            assert!((0..3).any(|_| self.round()), "they do not find each other");
        }
    }

    #[test]
    fn a_message_arrives_once_and_from_who_sealed_it() {
        let mut pair = Pair::new();
        pair.meet();
        let [one, two] = &mut pair.wires;
        let packet = one.pack(2, Some(release(7))).unwrap();
        assert_eq!(two.open(&packet, address(3), 0), Opened::Nothing, "from elsewhere");
        assert_eq!(two.heard(1), Some(pair.now));
        assert_eq!(two.open(&packet, address(1), 99_000), Opened::Message(1, release(7)));
        assert_eq!(two.heard(1), Some(99_000));
        assert_eq!(two.open(&packet, address(1), 99_100), Opened::Nothing, "a second time");
        let mut forged = one.pack(2, Some(release(8))).unwrap();
        let body = forged.len() - SEAL;
        let at = forged[..body].iter().rposition(|byte| *byte == b'8').unwrap();
        forged[at] = b'9';
        assert_eq!(two.open(&forged, address(1), 0), Opened::Nothing, "changed on the way");
        assert_eq!(two.open(b"short", address(1), 0), Opened::Nothing);
    }

    /// Two builds talk to each other while `cluster up` runs.
    #[test]
    fn a_packet_has_the_words_of_every_build() {
        let text = concat!(
            r#"{"from":1,"to":2,"session":3,"counter":4,"yours":5,"echo":6,"#,
            r#""message":{"release":{"term":7,"heir":null,"end":null}}}"#
        );
        let packet: Packet = serde_json::from_str(text).unwrap();
        assert_eq!((packet.session, packet.yours, packet.echo), (3, Some(5), Some(6)));
        assert_eq!(serde_json::to_string(&packet).unwrap(), text);
    }

    #[test]
    fn guards_find_each_other_again_after_any_of_them_has_restarted() {
        let mut pair = Pair::new();
        for restarted in [&[][..], &[0], &[1], &[0, 1]] {
            restarted.iter().for_each(|side| pair.restart(*side));
            pair.meet();
            assert!(pair.round(), "and stay together");
        }
    }

    /// One packet that somebody has kept used to make two guards deaf to each other until one was restarted.
    #[test]
    fn an_old_packet_makes_nobody_deaf_and_sets_off_no_storm() {
        let mut pair = Pair::new();
        pair.meet();
        pair.send(0, true, true);
        let (to, old) = pair.kept.last().cloned().unwrap();
        pair.restart(0);
        pair.meet();
        pair.restart(1);
        assert!(pair.arrive(to, old.clone(), false) <= 2);
        pair.meet();
        // Sent again for ever: a greeting a second, and no message is lost by it.
        let packets: usize = (0..1_000).map(|_| pair.arrive(to, old.clone(), false)).sum();
        assert!(packets <= 2, "{packets}");
        assert!(pair.round());
    }

    #[test]
    fn a_packet_that_was_held_back_does_not_bring_an_ended_session_back() {
        let mut pair = Pair::new();
        pair.meet();
        // It proves its session, and is kept from the receiver until its sender has restarted.
        pair.restart(0);
        pair.now += GREETING_INTERVAL;
        pair.send(0, false, false);
        pair.send(0, true, true);
        let (to, held) = pair.kept.last().cloned().unwrap();
        pair.restart(0);
        pair.meet();
        pair.arrive(to, held, false);
        assert!(pair.round());
    }

    #[derive(Clone, Debug)]
    enum Event {
        Send { from: usize, lost: bool, greetings_lost: bool },
        Restart(usize),
        Replay { index: prop::sample::Index, lost: bool },
        Wait(Millis),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..2_usize, any::<bool>(), any::<bool>())
                .prop_map(|(from, lost, greetings_lost)| Event::Send { from, lost, greetings_lost }),
            1 => (0..2_usize).prop_map(Event::Restart),
            4 => (any::<prop::sample::Index>(), any::<bool>())
                .prop_map(|(index, lost)| Event::Replay { index, lost }),
            2 => (0..2_000_u64).prop_map(Event::Wait),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_lost_and_sent_again_guards_hear_each_other_afterwards(
            events in prop::collection::vec(event(), 0..60),
        ) {
            let mut pair = Pair::new();
            for event in events {
                match event {
                    Event::Send { from, lost, greetings_lost } => {
                        pair.send(from, lost, greetings_lost);
                    }
                    Event::Restart(side) => pair.restart(side),
                    Event::Replay { index, lost } if !pair.kept.is_empty() => {
                        let (to, packet) = index.get(&pair.kept).clone();
                        prop_assert!(pair.arrive(to, packet, lost) <= 4, "a storm");
                    }
                    Event::Replay { .. } => {}
                    Event::Wait(time) => pair.now += time,
                }
            }
            pair.meet();
            prop_assert!(pair.round());
        }
    }
}
