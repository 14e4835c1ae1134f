//! The words of tollgate: ids, amounts, time, chance, refusals, outcomes, secrets.
//!
//! Floor 0. Nothing here decides, reads or writes anything; every other crate speaks in these
//! types. What is absent: I/O (but for the one reading of the clock and of the system's random
//! bytes), serialisation of documents, HTTP types.

mod budget;
mod entropy;
mod identity;
mod limit;
mod outcome;
mod refusal;
mod response;
mod route;
mod secret;
mod time;

pub use budget::{Amount, AmountError, BudgetId, PriceId, ReservationId, Unit};
pub use entropy::{Entropy, SystemEntropy};
pub use identity::{AgentId, CredentialId, Identity, OrganisationId, RunId, TeamId};
pub use limit::{Bucket, BucketError, LimitId, QuotaId, Rate, RateError, Tokens};
pub use outcome::{
    Attempt, Ending, Outcome, Paid, Protocol, RequestId, Ruling, RulingKind, Scheme, Timing, Trace,
};
pub use refusal::{Code, Custom, Exhausted, Grade, Refusal, RefusalBody, Retry, Ruled};
pub use response::ResponseId;
pub use route::{NodeName, Revision, RouteId, UpstreamId};
pub use secret::Secret;
pub use time::{Clock, SystemClock, Timestamp, Uptime};

/// Makes a newtype of shared text: cheap to clone, ordered, hashable, printable.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Wraps text that its owner has already checked.
            #[must_use]
            pub fn new(text: &str) -> Self {
                Self(std::sync::Arc::from(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Wraps text that is shared already.
            #[must_use]
            pub const fn from_shared(text: std::sync::Arc<str>) -> Self {
                Self(text)
            }

            /// The text, shared.
            #[must_use]
            pub fn shared(&self) -> std::sync::Arc<str> {
                std::sync::Arc::clone(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(crate) use text_id;
