//! Tokens verified before, a core at a time.

use std::collections::HashMap;
use std::sync::Arc;

use model::Timestamp;
use rules::identity::Proven;
use rules::plugin::{JwtAuth, Plugin};

/// Verified tokens. A token counts again while it has not expired and neither the agents nor the
/// rule it was verified under have changed.
#[derive(Debug, Default)]
pub(crate) struct Tokens(HashMap<Box<str>, Verified>);

#[derive(Debug)]
struct Verified {
    proven: Proven,
    /// The version of the agents.
    version: u64,
    rule: Arc<Plugin<JwtAuth>>,
}

impl Tokens {
    pub(crate) fn find(
        &self,
        token: &str,
        rule: &Arc<Plugin<JwtAuth>>,
        version: u64,
        now: Timestamp,
    ) -> Option<Proven> {
        let found = self.0.get(token)?;
        let holds = found.version == version && Arc::ptr_eq(&found.rule, rule);
        (holds && now < found.proven.until).then(|| found.proven.clone())
    }

    pub(crate) fn keep(
        &mut self,
        token: &str,
        rule: &Arc<Plugin<JwtAuth>>,
        version: u64,
        proven: Proven,
    ) {
        if self.0.len() >= TOKENS_MAX {
            self.0.clear();
        }
        self.0.insert(Box::from(token), Verified { proven, version, rule: Arc::clone(rule) });
    }

    /// Forgets all tokens.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Tokens a core remembers, of at most 16 KiB each. When full it forgets all of them, which only
/// costs their verification again.
const TOKENS_MAX: usize = 4_096;
