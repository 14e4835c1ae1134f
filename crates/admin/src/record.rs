//! One line in the log for each write: who, what, and what came of it.

use cluster::ProposeError;
use config::{Applied, EffectKind};

use crate::desk::Call;
use crate::envelope::Failure;

/// A write under way; its line is written when this value goes, also when the client has gone
/// before the answer was there.
pub(crate) struct Record<'c> {
    call: &'c Call,
    ended: Ended,
}

enum Ended {
    /// The client left before: the change was made or not.
    Unknown,
    Made {
        revision: u64,
        changed: usize,
    },
    Refused {
        status: u16,
    },
}

impl<'c> Record<'c> {
    /// A write that begins now.
    pub(crate) const fn of(call: &'c Call) -> Self {
        Self { call, ended: Ended::Unknown }
    }

    /// Notes what came of it. Of a refusal only the status: its text could quote the document.
    pub(crate) fn end(&mut self, made: &Result<Applied, ProposeError>) {
        self.ended = match made {
            Ok(applied) => Ended::Made {
                revision: applied.revision.number(),
                changed: applied
                    .effects
                    .iter()
                    .filter(|effect| effect.kind != EffectKind::Unchanged)
                    .count(),
            },
            Err(error) => Ended::Refused { status: status(error) },
        };
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Call { method, holder, about, dry_run, .. } = self.call;
        match self.ended {
            Ended::Unknown => {
                tracing::warn!(%method, holder, about, dry_run, "a write was left unanswered");
            }
            Ended::Made { revision, changed } => {
                tracing::info!(%method, holder, about, dry_run, revision, changed, "a write was made");
            }
            Ended::Refused { status } => {
                tracing::info!(%method, holder, about, dry_run, status, "a write was refused");
            }
        }
    }
}

fn status(error: &ProposeError) -> u16 {
    match error {
        ProposeError::Rejected(rejected) => Failure::from(rejected.clone()).status().as_u16(),
        ProposeError::Faults(_) => Failure::bad("").status().as_u16(),
        ProposeError::Unavailable { .. } => Failure::Unavailable(String::new()).status().as_u16(),
    }
}
