//! Credentials verified before, a core at a time.

use std::collections::HashMap;
use std::sync::Arc;

use model::Timestamp;
use rules::identity::Proven;
use rules::plugin::Plugin;

/// Verified tokens or keys. One counts again while it has not expired and neither the agents nor
/// the rule it was verified under have changed.
pub(crate) struct Tokens<T>(HashMap<Box<str>, Verified<T>>);

struct Verified<T> {
    proven: Proven,
    /// The version of the agents.
    version: u64,
    rule: Arc<Plugin<T>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> std::fmt::Debug for Tokens<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("known", &self.0.len()).finish()
    }
}

impl<T> Tokens<T> {
    pub(crate) fn find(
        &self,
        token: &str,
        rule: &Arc<Plugin<T>>,
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
        rule: &Arc<Plugin<T>>,
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
