//! The proof: two messages by which both sides show that they know the same key.
//!
//! Each is the payload of one [`Kind::Noise`](crate::frame::Kind::Noise) frame: the id of the key,
//! so that a side with two keys takes the right one, and a message of the Noise pattern `NNpsk0`.
//! What both must agree on beforehand, the frame grammar's version and the key's id, goes in as
//! the prologue. A first message that was recorded is answered when it is sent again, but leads
//! nowhere: what follows it is sealed with keys that only the side with the ephemeral secret has.

use snow::{Builder, HandshakeState};

use super::SecureError;
use super::key::{KEY_ID_BYTES, Key, KeyId};
use super::records::Records;
use crate::frame::{MAGIC, VERSION};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
/// Bytes of a message without payload: an ephemeral public key and a tag.
const MESSAGE_BYTES: usize = 32 + 16;
/// Bytes of the payload of a Noise frame.
pub(crate) const NOISE_BYTES: usize = KEY_ID_BYTES + MESSAGE_BYTES;

type Prologue = [u8; MAGIC.len() + 1 + KEY_ID_BYTES];

/// The side that connected, between its message and the answer.
pub(crate) struct Initiator {
    state: Box<HandshakeState>,
    id: KeyId,
}

impl Initiator {
    /// The first message, and what is needed to understand the answer.
    pub(crate) fn begin(key: &Key) -> Result<(Initiator, Vec<u8>), SecureError> {
        let prologue = prologue(key.id());
        let builder = builder(key, &prologue)?;
        let mut state = Box::new(builder.build_initiator().map_err(internal)?);
        let payload = write(&mut state, key.id())?;
        Ok((Initiator { state, id: key.id() }, payload))
    }

    /// Checks the answer. From here on both sides know that the other has the key.
    pub(crate) fn finish(mut self, payload: &[u8]) -> Result<Records, SecureError> {
        let (id, message) = split(payload)?;
        if id != self.id {
            return Err(SecureError::Proof);
        }
        read(&mut self.state, message)?;
        Ok(Records::new(self.state.into_transport_mode().map_err(internal)?))
    }
}

/// The key that a first message was made with.
pub(crate) fn key_id(payload: &[u8]) -> Result<KeyId, SecureError> {
    split(payload).map(|(id, _)| id)
}

/// Checks a first message, and answers it. The peer has proved nothing before its first record
/// opens: the message may be a recorded one.
pub(crate) fn respond(key: &Key, payload: &[u8]) -> Result<(Records, Vec<u8>), SecureError> {
    let (_, message) = split(payload)?;
    let prologue = prologue(key.id());
    let builder = builder(key, &prologue)?;
    let mut state = Box::new(builder.build_responder().map_err(internal)?);
    read(&mut state, message)?;
    let answer = write(&mut state, key.id())?;
    Ok((Records::new(state.into_transport_mode().map_err(internal)?), answer))
}

fn prologue(id: KeyId) -> Prologue {
    let mut prologue = [VERSION; size_of::<Prologue>()];
    prologue[..MAGIC.len()].copy_from_slice(&MAGIC);
    prologue[MAGIC.len() + 1..].copy_from_slice(&id.0);
    prologue
}

fn builder<'a>(key: &'a Key, prologue: &'a Prologue) -> Result<Builder<'a>, SecureError> {
    let pattern = PATTERN.parse().map_err(internal)?;
    let builder = Builder::new(pattern).psk(0, key.session()).map_err(internal)?;
    builder.prologue(prologue).map_err(internal)
}

fn write(state: &mut HandshakeState, id: KeyId) -> Result<Vec<u8>, SecureError> {
    let mut payload = vec![0; NOISE_BYTES];
    payload[..KEY_ID_BYTES].copy_from_slice(&id.0);
    let written = state.write_message(&[], &mut payload[KEY_ID_BYTES..]).map_err(internal)?;
    debug_assert_eq!(written, MESSAGE_BYTES);
    Ok(payload)
}

fn read(state: &mut HandshakeState, message: &[u8; MESSAGE_BYTES]) -> Result<(), SecureError> {
    match state.read_message(message, &mut []) {
        Ok(_) => Ok(()),
        // Whatever is wrong with it, a stranger learns no more than that.
        Err(_) => Err(SecureError::Proof),
    }
}

fn split(payload: &[u8]) -> Result<(KeyId, &[u8; MESSAGE_BYTES]), SecureError> {
    let length = SecureError::Length(payload.len());
    match payload.split_first_chunk::<KEY_ID_BYTES>() {
        Some((id, message)) => Ok((KeyId(*id), message.try_into().map_err(|_| length)?)),
        None => Err(length),
    }
}

fn internal(error: snow::Error) -> SecureError {
    SecureError::Internal(error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.as_bytes())
    }

    /// Both ends of a session.
    pub(in crate::secure) fn session() -> (Records, Records) {
        let key = key("one");
        let (initiator, first) = Initiator::begin(&key).expect("works");
        let (there, second) = respond(&key, &first).expect("the same key");
        (initiator.finish(&second).expect("the same key"), there)
    }

    #[test]
    fn every_changed_bit_and_every_other_length_of_a_message_is_no_proof() {
        let key = key("one");
        let (_, first) = Initiator::begin(&key).expect("works");
        assert_eq!(key_id(&first), Ok(key.id()));
        for bit in KEY_ID_BYTES * 8..NOISE_BYTES * 8 {
            let mut changed = first.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(respond(&key, &changed).is_err_and(|e| e == SecureError::Proof), "bit {bit}");
        }
        for length in (0..NOISE_BYTES).chain([NOISE_BYTES + 1]) {
            let mut other = first.clone();
            other.resize(length, 0);
            let refused = respond(&key, &other).map(|_| ());
            assert_eq!(refused, Err(SecureError::Length(length)));
        }
        let (_, second) = respond(&key, &first).expect("as it was");
        for bit in 0..NOISE_BYTES * 8 {
            let (initiator, first) = Initiator::begin(&key).expect("works");
            let (_, mut answer) = respond(&key, &first).expect("as it was");
            answer[bit / 8] ^= 1 << (bit % 8);
            assert!(initiator.finish(&answer).is_err_and(|e| e == SecureError::Proof), "bit {bit}");
        }
        let (initiator, _) = Initiator::begin(&key).expect("works");
        assert!(initiator.finish(&second).is_err(), "an answer to another message");
    }

    #[test]
    fn another_key_proves_nothing_to_either_side() {
        let (ours, theirs) = (key("one"), key("two"));
        let (initiator, first) = Initiator::begin(&ours).expect("works");
        assert!(respond(&theirs, &first).is_err_and(|e| e == SecureError::Proof));
        // An impostor that answers with a key of its own, under the name of ours.
        let (_, other) = Initiator::begin(&theirs).expect("works");
        let (_, mut answer) = respond(&theirs, &other).expect("its own key");
        answer[..KEY_ID_BYTES].copy_from_slice(&ours.id().0);
        assert!(initiator.finish(&answer).is_err_and(|e| e == SecureError::Proof));
    }
}
