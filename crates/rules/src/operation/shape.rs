//! The shapes that the values of parameters have: a guard that keeps a word of a path that nobody
//! knows yet from being taken for an identifier.

/// What a parameter takes. Values are in normal form, so an escape in one stands for a byte that
/// is no text or for a separator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// 32 lower-case hex digits: how accounts and zones are named.
    Hex32,
    /// What a machine made: 16 to 64 letters, digits, `-` and `_`, a digit among them. 32 hex
    /// digits and UUIDs are; words are not.
    Id,
    /// A name that somebody chose: anything but an escape and what some servers cut off (`;`,
    /// `?`, `#`).
    #[default]
    Name,
    /// Any text, encoded slashes included.
    Text,
    /// Everything that is left of the path, slashes included.
    Tail,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 5] = [Self::Hex32, Self::Id, Self::Name, Self::Text, Self::Tail];

    /// The name in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hex32 => "hex32",
            Self::Id => "id",
            Self::Name => "name",
            Self::Text => "text",
            Self::Tail => "tail",
        }
    }

    /// What such a value is, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Hex32 => "32 lower-case hex digits",
            Self::Id => "an identifier (16 to 64 letters, digits, `-` and `_`, a digit among them)",
            Self::Name => "a name (no escape, no `;`, `?` or `#`)",
            Self::Text => "a text",
            Self::Tail => "the rest of the path",
        }
    }

    /// Whether a value has this shape. No value is empty.
    #[must_use]
    pub fn takes(self, value: &str) -> bool {
        let bytes = value.as_bytes();
        match self {
            Self::Hex32 => bytes.len() == 32 && traits(bytes).all & HEX != 0,
            Self::Id => {
                let Traits { all, any } = traits(bytes);
                matches!(bytes.len(), 16..=64) && all & WORD != 0 && any & DIGIT != 0
            }
            Self::Name => !bytes.is_empty() && traits(bytes).any & CUT == 0,
            Self::Text | Self::Tail => !bytes.is_empty(),
        }
    }
}

/// What all bytes of a value are, and what any is.
struct Traits {
    all: u8,
    any: u8,
}

/// Looks at every byte without a branch: most values fit, and most are 32 bytes long.
fn traits(bytes: &[u8]) -> Traits {
    let start = Traits { all: u8::MAX, any: 0 };
    bytes.iter().fold(start, |Traits { all, any }, byte| {
        let of = OF_BYTE.get(usize::from(*byte)).copied().unwrap_or_default();
        Traits { all: all & of, any: any | of }
    })
}

/// A lower-case hex digit.
const HEX: u8 = 1;
/// A letter, a digit, `-` or `_`.
const WORD: u8 = 2;
const DIGIT: u8 = 4;
/// An escape, or where some servers cut a segment off.
const CUT: u8 = 8;

#[expect(clippy::indexing_slicing, reason = "a byte is a place of the table")]
const OF_BYTE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = u8::MIN;
    loop {
        let is_word = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let hex = if matches!(byte, b'0'..=b'9' | b'a'..=b'f') { HEX } else { 0 };
        let word = if is_word { WORD } else { 0 };
        let digit = if byte.is_ascii_digit() { DIGIT } else { 0 };
        let cut = if matches!(byte, b'%' | b';' | b'?' | b'#') { CUT } else { 0 };
        table[byte as usize] = hex | word | digit | cut;
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
