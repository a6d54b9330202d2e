//! What is in a datagram: 16 bytes that say whose it is, then foca's own. Everything in it is
//! looked at before foca is, for anyone who reaches the socket can send some.

use crate::identity::{Peer, fnv};
use foca::{Header, Identity, Member, Message};
use std::borrow::Cow;

/// First bytes of every datagram, and their version.
const MAGIC: [u8; 4] = *b"ZPGS";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;
/// Bytes of foca's part. With the head and those of UDP and IPv6 it fits into 1400, which passes
/// most tunnels, and three identities of the largest size fit into it.
pub(crate) const BODY_BYTES_MAX: usize = 1300;

/// The bytes before foca's: what it is, the version, and the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Head([u8; HEAD_BYTES]);

impl Head {
    /// That of a cluster.
    pub fn of(cluster: &str) -> Self {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[8..].copy_from_slice(&fnv(cluster.as_bytes()).to_le_bytes());
        Self(bytes)
    }

    /// A datagram with foca's bytes.
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        [&self.0, body].concat()
    }

    /// Foca's bytes, if the datagram is of this cluster.
    pub fn open<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        datagram.strip_prefix(&self.0).filter(|body| body.len() <= BODY_BYTES_MAX)
    }
}

/// The part of foca's bytes that foca may see; nothing when they are not sound. Who does not know
/// this node's id speaks to whoever is at its address: that is `me`. There is room for so many
/// members more than those that it `knows` by their ids; news of others are left out, all of them.
pub fn admit<'a>(
    body: &'a [u8],
    me: &Peer,
    room: usize,
    knows: impl Fn(u64) -> bool,
) -> Option<Cow<'a, [u8]>> {
    let (mut header, rest) = postcard::take_from_bytes::<Header<Peer>>(body).ok()?;
    if !header.src.is_sound() || !target(&header.message)? {
        return None;
    }
    let news = members(rest)?;
    // Looking for each among all takes its time, and is for the rare case that it matters.
    let is_wide = news.len() < room;
    let is_new = |peer: &Peer| !is_wide && !knows(peer.addr());
    let is_new_src = is_new(&header.src);
    if is_new_src && room == 0 {
        return None;
    }
    if header.dst.is_anyone() {
        if header.message != Message::Announce || !rest.is_empty() {
            return None;
        }
        header.dst = me.clone();
        return postcard::to_allocvec(&header).ok().map(Cow::Owned);
    }
    let new = news.iter().filter(|member| is_new(member.id())).count();
    if new + usize::from(is_new_src) <= room {
        return Some(Cow::Borrowed(body));
    }
    body.get(..body.len() - rest.len()).map(Cow::Borrowed)
}

/// Whether the third node that a message is about is sound; nothing for messages that no node of
/// this kind sends.
fn target(message: &Message<Peer>) -> Option<bool> {
    match message {
        Message::PingReq { target: peer, .. }
        | Message::IndirectPing { origin: peer, .. }
        | Message::IndirectAck { target: peer, .. }
        | Message::ForwardedAck { origin: peer, .. } => Some(peer.is_sound()),
        Message::Broadcast => None,
        _ => Some(true),
    }
}

/// The news that go with a message. All of them must be sound, and nothing may follow.
fn members(mut rest: &[u8]) -> Option<Vec<Member<Peer>>> {
    let mut members = Vec::new();
    let Some((count, after)) = rest.split_first_chunk() else {
        return rest.is_empty().then_some(members);
    };
    rest = after;
    for _ in 0..u16::from_be_bytes(*count) {
        let (member, after) = postcard::take_from_bytes::<Member<Peer>>(rest).ok()?;
        rest = after;
        if !member.id().is_sound() {
            return None;
        }
        members.push(member);
    }
    rest.is_empty().then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str) -> Peer {
        Peer { id: id.into(), port: 9000, ..Peer::at("10.0.0.1:7946".parse().unwrap()) }
    }

    fn header(message: Message<Peer>) -> Header<Peer> {
        Header { src: peer("a"), src_incarnation: 0, dst: peer("b"), message }
    }

    fn body(header: &Header<Peer>, members: &[Peer]) -> Vec<u8> {
        let mut bytes = postcard::to_allocvec(header).unwrap();
        if !members.is_empty() {
            bytes.extend((members.len() as u16).to_be_bytes());
        }
        for member in members {
            bytes.extend(postcard::to_allocvec(&Member::alive(member.clone())).unwrap());
        }
        bytes
    }

    #[test]
    fn only_datagrams_of_the_same_cluster_are_opened() {
        let head = Head::of("blue");
        let datagram = head.seal(b"hello");
        assert_eq!(head.open(&datagram), Some(&b"hello"[..]));
        assert!(Head::of("green").open(&datagram).is_none());
        assert!(head.open(&datagram[..HEAD_BYTES - 1]).is_none() && head.open(b"").is_none());
        for at in 0..HEAD_BYTES {
            let mut other = datagram.clone();
            other[at] ^= 1;
            assert!(head.open(&other).is_none(), "byte {at}");
        }
        assert!(head.open(&head.seal(&[0; BODY_BYTES_MAX + 1])).is_none());
    }

    #[test]
    fn the_largest_identities_fit_into_a_datagram() {
        let (id, host) = ("x".repeat(128), format!("{}b", "a.".repeat(126)));
        let largest = Peer {
            id: id.as_str().into(),
            incarnation: u64::MAX,
            life: u64::MAX,
            gossip: "[fdff:ffff::1]:65535".parse().unwrap(),
            host: host.as_str().into(),
            port: u16::MAX,
        };
        assert!(largest.is_sound());
        let message = Message::PingReq { target: largest.clone(), probe_number: u8::MAX };
        let (src, dst) = (largest.clone(), largest);
        let bytes = body(&Header { src, src_incarnation: u16::MAX, dst, message }, &[]);
        println!("three of the largest identities: {} bytes", bytes.len());
        assert!(bytes.len() <= BODY_BYTES_MAX);
    }

    #[test]
    fn what_is_for_anyone_here_is_for_this_node() {
        let dst = Peer::at("10.0.0.2:7946".parse().unwrap());
        let announce = Header { dst: dst.clone(), ..header(Message::Announce) };
        let taken = admit(&body(&announce, &[]), &peer("me"), 9, |_| false).unwrap().into_owned();
        let read: Header<Peer> = postcard::from_bytes(&taken).unwrap();
        assert_eq!((read.dst, read.src), (peer("me"), peer("a")));
        let ping = Header { dst, ..header(Message::Ping(1)) };
        assert!(admit(&body(&ping, &[]), &peer("me"), 9, |_| false).is_none());
    }

    #[test]
    fn what_is_not_sound_is_not_shown_to_foca() {
        let me = peer("b");
        let good = body(&header(Message::Gossip), &[peer("c"), peer("d")]);
        assert_eq!(admit(&good, &me, 9, |_| false).unwrap(), good);
        let from = |src: Peer| body(&Header { src, ..header(Message::Gossip) }, &[]);
        let req = |target: Peer| Message::PingReq { target, probe_number: 1 };
        for bad in [
            good[..good.len() - 1].to_vec(),
            [good.as_slice(), b"x"].concat(),
            [body(&header(Message::Gossip), &[]).as_slice(), b"x"].concat(),
            body(&header(Message::Gossip), &[peer("c"), peer("two words")]),
            from(peer("")),
            from(Peer { port: 0, ..peer("a") }),
            body(&header(req(peer(""))), &[]),
            body(&header(Message::Broadcast), &[]),
            Vec::new(),
        ] {
            assert!(admit(&bad, &me, 9, |_| false).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn when_it_is_full_only_the_known_are_heard() {
        let me = peer("b");
        let knows = |ids: &'static [&str]| move |id| ids.iter().any(|one| peer(one).addr() == id);
        let good = body(&header(Message::Ping(1)), &[peer("c"), peer("d")]);
        let bare = body(&header(Message::Ping(1)), &[]);
        for (room, known, taken) in [
            (0, &["a", "c", "d"][..], Some(&good)),
            (1, &["c", "d"], Some(&good)),
            (2, &["a"], Some(&good)),
            (3, &[], Some(&good)),
            // The message, without the news.
            (0, &["a", "c"], Some(&bare)),
            (2, &[], Some(&bare)),
            (0, &["c", "d"], None),
        ] {
            let admitted = admit(&good, &me, room, knows(known));
            assert_eq!(admitted.as_deref(), taken.map(Vec::as_slice), "{room} {known:?}");
        }
        let announce = Header { dst: Peer::at(me.gossip), ..header(Message::Announce) };
        assert!(admit(&body(&announce, &[]), &me, 0, |_| false).is_none());
        assert!(admit(&body(&announce, &[]), &me, 1, |_| false).is_some());
    }
}
