//! Chance, as an argument.

use std::io::{self, Read as _};

/// A source of random bytes. Code that needs chance is given one.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    ///
    /// # Errors
    /// When the source cannot be read; the buffer must then not be used.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// The operating system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        std::fs::File::open("/dev/urandom")?.read_exact(buffer)
    }
}
