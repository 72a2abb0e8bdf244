//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), so that a frame of ours can be put between them. Payloads
//! are skipped, never looked into.

use crate::moment::random_bytes;

const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Two bytes, the longest form of a length, a masking key.
const LONGEST_HEAD: usize = 2 + 8 + 4;
/// "Going away" (RFC 6455 §7.4.1): a server that goes down.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// Follows the frames that are written to one side.
#[derive(Default)]
pub struct FrameFollower {
    head: [u8; LONGEST_HEAD],
    /// Bytes of the head that went.
    read: usize,
    /// Of the payload that is going.
    left: u64,
    closed: bool,
}

impl FrameFollower {
    /// These bytes went out.
    pub fn went(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            let n = bytes.len().min(self.head_length() - self.read);
            self.head[self.read..self.read + n].copy_from_slice(&bytes[..n]);
            self.read += n;
            bytes = &bytes[n..];
            if self.read == self.head_length() {
                self.left = self.payload_length();
                self.read = 0;
                self.closed |= self.head[0] & OPCODE == CLOSE;
            }
        }
    }

    /// May another frame begin here? A control frame may also stand between the fragments of a message (RFC 6455 §5.4).
    pub fn is_between(&self) -> bool {
        self.read == 0 && self.left == 0
    }

    /// A Close frame was sent, after which nothing may be (RFC 6455 §5.5.1), or the side was told that no more comes.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// No more is written to this side.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// As far as is known: the second byte says how long the head is.
    fn head_length(&self) -> usize {
        if self.read < 2 {
            return 2;
        }
        let mask = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        2 + self.length_bytes() + mask
    }

    fn length_bytes(&self) -> usize {
        match self.head[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload_length(&self) -> u64 {
        match self.length_bytes() {
            0 => u64::from(self.head[1] & !MASKED),
            n => self.head[2..2 + n].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }
}

/// A Close frame that says that gatepass goes away. What a client sends, and so what an origin gets, is masked with a key
/// that nobody can foresee (RFC 6455 §5.3); what a client gets is not.
pub fn going_away(to_origin: bool) -> Vec<u8> {
    let [high, low] = GOING_AWAY;
    if !to_origin {
        return vec![FINAL | CLOSE, 2, high, low];
    }
    let [a, b, c, d] = random_bytes();
    vec![FINAL | CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with the shortest form of its length.
    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![FINAL | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        // A payload that looks like a Close frame.
        frame.extend(std::iter::repeat_n(FINAL | CLOSE, length + if masked { 4 } else { 0 }));
        frame
    }

    #[test]
    fn the_places_between_frames_are_found_wherever_the_bytes_are_cut() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for masked in [false, true] {
                let frame = frame(2, masked, length);
                let next = self::frame(9, masked, 3);
                for cut in (1..frame.len()).filter(|cut| *cut < 20 || frame.len() - cut < 20) {
                    let mut follower = FrameFollower::default();
                    follower.went(&frame[..cut]);
                    assert!(!follower.is_between(), "{cut} of {length}, masked: {masked}");
                    follower.went(&[&frame[cut..], &next].concat());
                    assert!(follower.is_between() && !follower.is_closed(), "{cut} of {length}, masked: {masked}");
                }
            }
        }
    }

    #[test]
    fn frames_are_followed_byte_by_byte_and_all_at_once() {
        let frames = [frame(1, true, 5), frame(0, true, 300), frame(9, true, 0), frame(2, true, 70_000)];
        let mut follower = FrameFollower::default();
        for frame in &frames {
            assert!(follower.is_between());
            for (at, byte) in frame.iter().enumerate() {
                follower.went(&[*byte]);
                assert_eq!(follower.is_between(), at + 1 == frame.len(), "{at}");
            }
        }
        follower.went(&frames.concat());
        assert!(follower.is_between() && !follower.is_closed());
    }

    #[test]
    fn a_close_frame_is_seen_and_so_is_the_end_of_what_is_written() {
        for close in [frame(CLOSE, false, 0), frame(CLOSE, true, 2), going_away(false), going_away(true)] {
            let mut follower = FrameFollower::default();
            follower.went(&frame(1, false, 3));
            assert!(!follower.is_closed());
            follower.went(&close);
            assert!(follower.is_between() && follower.is_closed(), "{close:?}");
        }
        let mut ended = FrameFollower::default();
        ended.close();
        assert!(ended.is_closed());
    }

    #[test]
    fn what_goes_to_the_origin_is_masked_and_says_1001_when_the_mask_is_taken_off() {
        assert_eq!(going_away(false), [0x88, 2, 0x03, 0xe9]);
        let masked = going_away(true);
        assert_eq!(masked[..2], [0x88, 0x82]);
        assert_eq!([masked[6] ^ masked[2], masked[7] ^ masked[3]], [0x03, 0xe9]);
    }
}
