//! Makes the table of operations that ships in the binary from the sources beside it.
//!
//! `cargo run -p rules --example operations` writes `data/cloudflare.operations`. A test fails
//! when the file and its sources disagree.

mod compile;
mod tree;

use std::io::Write as _;
use std::path::Path;

use compile::{Sources, compile};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let table = compile(&Sources::read(&data.join("cloudflare"))?)?;
    let file = data.join("cloudflare.operations");
    std::fs::write(&file, &table)?;
    let calls = table.lines().filter(|line| line.trim_start().starts_with('>')).count();
    writeln!(std::io::stdout(), "{}: {calls} calls, {} bytes", file.display(), table.len())?;
    Ok(())
}
