//! Judges one change against a state: seals its secrets, then applies it.

use config::{Applied, Change, Command, Key, Keyring, Rejected, State};
use model::Entropy;

/// Applies a command whose secrets are still as people wrote them.
///
/// # Errors
/// When the command does not fit the state; nothing has changed then.
pub(crate) fn judge(
    state: &mut State,
    mut command: Command,
    keyring: &Keyring,
    entropy: &dyn Entropy,
) -> Result<Applied, Rejected> {
    let next = state.revision().next();
    for change in &mut command.changes {
        let (key, value) = match change {
            Change::Put { key, value, .. } => (key.clone(), value),
            Change::Create { kind, value } => {
                // The id is the command's revision, and sealed values are bound to the id.
                command.base.get_or_insert_with(|| state.revision());
                (Key::created(*kind, next), value)
            }
            Change::Delete { .. } => continue,
        };
        let previous = state.get(&key).map(|stored| &*stored.value);
        *value = config::seal(keyring, entropy, &key, value.take(), previous)
            .map_err(|faults| Rejected::Faults { key, faults })?;
    }
    state.apply(&command)
}
