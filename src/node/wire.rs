//! Messages between guards: sealed with the cluster's key, and worth nothing when they are sent again.
//!
//! A packet is JSON and HMAC-SHA256 of it. Every guard draws a session number when it starts, and counts its packets.
//! A packet is taken only if it names the receiver's present session, which nobody can know who has not heard from
//! the receiver in this run, and if its counter is higher than any before it. A guard that is addressed under an old
//! session answers with an empty packet that names both; with that the other has caught up.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::lease::{Message, NodeId};

/// The port on which guards listen (UDP).
pub const PORT: u16 = 5480;
/// Where the key lies; readable by root alone.
pub const KEY_PATH: &str = "/etc/cluster/key";
/// Bytes of the seal.
const SEAL: usize = 32;

#[derive(Serialize, Deserialize)]
struct Packet {
    from: NodeId,
    to: NodeId,
    session: u64,
    counter: u64,
    /// The receiver's session, as the sender knows it.
    yours: Option<u64>,
    message: Option<Message>,
}

/// What came out of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// A message, fresh and from whom it says.
    Message(NodeId, Message),
    /// The sender does not know this session: greet it, so that it can say it again.
    Greet(NodeId),
    /// Nothing that concerns this guard.
    Nothing,
}

#[derive(Default)]
struct Peer {
    session: Option<u64>,
    /// Sessions that have ended: what is sent under them is an echo.
    ended: BTreeSet<u64>,
    received: u64,
    sent: u64,
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
    pub fn new(key: &str, me: NodeId, session: u64, peers: impl Iterator<Item = NodeId>) -> Result<Wire> {
        let key = key.trim().as_bytes().to_vec();
        if key.len() < 32 {
            bail!("the cluster's key is {} bytes long, and 32 are needed", key.len());
        }
        Ok(Wire { key, me, session, peers: peers.map(|peer| (peer, Peer::default())).collect() })
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
        let (counter, yours) = (peer.sent, peer.session);
        let packet = Packet { from: self.me, to, session: self.session, counter, yours, message };
        let mut bytes = serde_json::to_vec(&packet)?;
        let seal = self.seal(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&seal);
        Ok(bytes)
    }

    /// Opens a packet.
    pub fn open(&mut self, bytes: &[u8]) -> Opened {
        let Some((body, seal)) = bytes.len().checked_sub(SEAL).map(|middle| bytes.split_at(middle)) else {
            return Opened::Nothing;
        };
        if self.seal(body).verify_slice(seal).is_err() {
            return Opened::Nothing;
        }
        let Ok(packet) = serde_json::from_slice::<Packet>(body) else { return Opened::Nothing };
        let session = self.session;
        let Some(peer) = self.peers.get_mut(&packet.from).filter(|_| packet.to == self.me) else {
            return Opened::Nothing;
        };
        if packet.yours != Some(session) {
            // It may be an echo: nothing is learned from it but what the greeting needs, and that is checked when
            // the answer comes.
            if !peer.ended.contains(&packet.session) && peer.session != Some(packet.session) {
                peer.session.get_or_insert(packet.session);
            }
            return Opened::Greet(packet.from);
        }
        if peer.ended.contains(&packet.session) {
            return Opened::Nothing;
        }
        if peer.session != Some(packet.session) {
            peer.ended.extend(peer.session.replace(packet.session));
            peer.received = 0;
        }
        if packet.counter <= peer.received {
            return Opened::Nothing;
        }
        peer.received = packet.counter;
        packet.message.map_or(Opened::Nothing, |message| Opened::Message(packet.from, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn wire(me: NodeId, session: u64) -> Wire {
        Wire::new(KEY, me, session, [1, 2].into_iter().filter(|peer| *peer != me)).unwrap()
    }

    fn release(term: u64) -> Message {
        Message::Release { term, heir: None, end: None }
    }

    /// Sends until the two know each other's sessions.
    fn met(one: &mut Wire, other: &mut Wire) {
        for _ in 0..2 {
            let packet = one.pack(2, None).unwrap();
            other.open(&packet);
            let packet = other.pack(1, None).unwrap();
            one.open(&packet);
        }
    }

    #[test]
    fn a_message_arrives_once_and_from_who_sealed_it() {
        let (mut one, mut two) = (wire(1, 11), wire(2, 22));
        met(&mut one, &mut two);
        let packet = one.pack(2, Some(release(7))).unwrap();
        assert_eq!(two.open(&packet), Opened::Message(1, release(7)));
        assert_eq!(two.open(&packet), Opened::Nothing, "a second time");
        let mut forged = one.pack(2, Some(release(8))).unwrap();
        let at = forged.iter().position(|byte| *byte == b'8').unwrap();
        forged[at] = b'9';
        assert_eq!(two.open(&forged), Opened::Nothing, "changed on the way");
        assert_eq!(two.open(b"short"), Opened::Nothing);
    }

    #[test]
    fn what_an_earlier_run_was_sent_is_worth_nothing() {
        let (mut one, mut two) = (wire(1, 11), wire(2, 22));
        met(&mut one, &mut two);
        let old = one.pack(2, Some(release(7))).unwrap();
        // The receiver restarts, and the echo only makes it greet.
        let mut two = wire(2, 23);
        assert_eq!(two.open(&old), Opened::Greet(1));
        let greeting = two.pack(1, None).unwrap();
        assert_eq!(one.open(&greeting), Opened::Nothing);
        let again = one.pack(2, Some(release(7))).unwrap();
        assert_eq!(two.open(&again), Opened::Message(1, release(7)));
        // The sender restarts; what it said before counts no more, whoever says it again.
        let late = one.pack(2, Some(release(9))).unwrap();
        let mut one = wire(1, 12);
        met(&mut one, &mut two);
        let packet = one.pack(2, Some(release(8))).unwrap();
        assert_eq!(two.open(&packet), Opened::Message(1, release(8)));
        assert_eq!(two.open(&late), Opened::Nothing, "of a session that has ended");
    }
}
