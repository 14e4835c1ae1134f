//! What is said of a call: whom it concerns, what it does, what it costs, what it endangers.

use super::Catalogue;

/// An API whose calls have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Cloudflare's API v4.
    Cloudflare,
}

impl Api {
    /// Every API.
    pub const ALL: [Self; 1] = [Self::Cloudflare];

    /// The name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cloudflare => "cloudflare",
        }
    }

    /// The API of a host, in lower case.
    #[must_use]
    pub fn of_host(host: &str) -> Option<Self> {
        CLOUDFLARE_HOSTS.contains(&host).then_some(Self::Cloudflare)
    }

    /// Its calls.
    #[must_use]
    pub fn catalogue(self) -> &'static Catalogue {
        match self {
            Self::Cloudflare => Catalogue::cloudflare(),
        }
    }
}

/// The public one and the one of the US government.
const CLOUDFLARE_HOSTS: [&str; 2] = ["api.cloudflare.com", "api.fed.cloudflare.com"];

/// A method that the calls of an API have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    Delete,
    Get,
    Patch,
    Post,
    Put,
}

impl Verb {
    /// Every verb, in the order of their names.
    pub const ALL: [Self; 5] = [Self::Delete, Self::Get, Self::Patch, Self::Post, Self::Put];

    /// The verb that a request's method asks for: `HEAD` is a `GET` without the answer's body
    /// (RFC 9110 §9.3.2). Methods are case-sensitive (§9.1).
    #[must_use]
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "DELETE" => Some(Self::Delete),
            "GET" | "HEAD" => Some(Self::Get),
            "PATCH" => Some(Self::Patch),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            _ => None,
        }
    }

    /// As in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// Makes an enum whose variants have a letter in the table and a name elsewhere.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident $letter:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in records and documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one that stands for a letter of the table.
            pub(super) const fn of_letter(letter: char) -> Option<Self> {
                match letter { $($letter => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words!(
    /// Whom a call concerns: what its path begins with.
    Scope {
        Account 'a' "account",
        Zone 'z' "zone",
        User 'u' "user",
        /// The API as a whole, or what belongs to nobody.
        Whole 'n' "none",
    }
);

words!(
    /// Whether a call changes something.
    Effect {
        Read 'r' "read",
        Write 'w' "write",
        /// Only the body says it, so without a look at the body it counts as a write.
        Body 'b' "depends-on-body",
    }
);

impl Effect {
    /// What a method alone says: those that are safe only read (RFC 9110 §9.2.1).
    #[must_use]
    pub fn of_method(method: &str) -> Self {
        if matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE") {
            Self::Read
        } else {
            Self::Write
        }
    }
}

words!(
    /// What a call costs, by kind; the cheapest first.
    Cost {
        /// Nothing that is known.
        None '-' "none",
        /// It, or what it makes, is metered.
        Usage 'u' "usage",
        /// It starts or changes a recurring charge.
        Recurring 'r' "recurring",
        /// It charges at once and is not refunded.
        Purchase 'p' "purchase",
    }
);

words!(
    /// What a call endangers.
    Danger {
        /// It weakens the account's own evidence.
        Audit 'a' "audit",
        /// It reads out data or secrets in bulk.
        Exfiltration 'x' "exfiltration",
        /// It makes or widens authority outside the gate.
        Identity 'i' "identity",
        /// It deletes a container of other resources, or data that has no undo.
        Irreversible 'd' "irreversible",
        /// It takes a site, its names or its protection down.
        Outage 'o' "outage",
        /// It touches means of payment.
        Payment 'p' "payment",
    }
);

/// A set of dangers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dangers(u8);

impl Dangers {
    /// Whether a danger is in the set.
    #[must_use]
    pub const fn contains(self, danger: Danger) -> bool {
        self.0 & 1 << danger as u8 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The dangers in the order of their names.
    pub fn iter(self) -> impl Iterator<Item = Danger> {
        Danger::ALL.iter().copied().filter(move |danger| self.contains(*danger))
    }

    pub(super) const fn with(self, danger: Danger) -> Self {
        Self(self.0 | 1 << danger as u8)
    }
}
