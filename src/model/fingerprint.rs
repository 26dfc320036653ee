//! What is kept of a text so that it is known again.

use std::hash::{DefaultHasher, Hasher};

/// 128 bits of hash: two runs of SipHash (std's [`DefaultHasher`], whose keys are fixed) over the text with a
/// different byte in front. The chance that any two of a million texts have the same is below 1 to 10²⁶. It may be
/// another one in another version of the program, so it never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// That of no text.
    pub const NONE: Self = Self([0; 2]);

    /// That of this text.
    pub fn of(text: &[u8]) -> Self {
        Self([0, 1].map(|run| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(run);
            hasher.write(text);
            hasher.finish()
        }))
    }

    /// The first half of it, for tables that are smaller.
    pub fn half(self) -> u64 {
        self.0[0]
    }
}
