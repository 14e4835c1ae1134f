//! A script that the store runs: by its digest, or in full where the store does not know it.

use std::sync::OnceLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};

/// A script and its SHA-1, by which Redis names it (command `EVALSHA`).
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// Runs it; answers bytes.
    ///
    /// # Errors
    /// What the store or the connection says.
    pub(crate) async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        keys: &[impl AsRef<[u8]>],
        arguments: &[&[u8]],
    ) -> Result<Vec<u8>, RedisError> {
        let digest =
            self.digest.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned());
        let run = |how: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(how).arg(script).arg(keys.len());
            for key in keys {
                command.arg(key.as_ref());
            }
            command.arg(arguments);
            command
        };
        #[cfg(test)]
        if let Some(text) = super::tests::mutants::altered(keys, self.text) {
            return run("EVAL", &text).query_async(connection).await;
        }
        let answered = run("EVALSHA", digest).query_async(connection).await;
        match answered {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                run("EVAL", self.text).query_async(connection).await
            }
            other => other,
        }
    }
}
