//! Names for new things: the same from the same seed, so that a demo can be replayed.

/// `SplitMix64` (Steele, Lea, Flood 2014) dressed as the identifiers the API hands out.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    state: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 32 hex digits: an account, a zone, a record, a token.
    pub(crate) fn hex32(&mut self) -> String {
        format!("{:016x}{:016x}", self.number(), self.number())
    }

    /// A version, a deployment, a database.
    pub(crate) fn uuid(&mut self) -> String {
        let digits = self.hex32();
        let part = |from, to| digits.get(from..to).unwrap_or_default();
        format!(
            "{}-{}-4{}-8{}-{}",
            part(0, 8),
            part(8, 12),
            part(13, 16),
            part(17, 20),
            part(20, 32)
        )
    }

    /// The secret of an API token: `prefix`, 40 digits, and a checksum of 8 that scanners look for.
    pub(crate) fn secret(&mut self, prefix: &str) -> String {
        let digits: String =
            format!("{}{:016x}", self.hex32(), self.number()).chars().take(40).collect();
        format!("{prefix}{digits}{:08x}", checksum(&digits))
    }
}

/// 32 bits of FNV-1a. The real checksum is not published; nobody here verifies it.
fn checksum(text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
