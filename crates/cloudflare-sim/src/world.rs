//! All there is behind the API: one user and what belongs to them.
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use crate::account::Account;
use crate::call::Call;
use crate::d1::Database;
use crate::dns::Record;
use crate::envelope::Refusal;
use crate::id::Ids;
use crate::kv::Namespace;
use crate::options::Options;
use crate::r2::Bucket;
use crate::registrar::Registrar;
use crate::token::Tokens;
use crate::user::User;
use crate::worker::Workers;
use crate::zone::Zone;

/// All there is. Handlers get it alone, one at a time; what it holds is bounded, and where a bound
/// is reached the call is refused.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ids: Ids,
    pub(crate) user: User,
    pub(crate) accounts: Vec<Account>,
    pub(crate) tokens: Tokens,
    pub(crate) zones: Vec<Zone>,
    pub(crate) registrar: Registrar,
    pub(crate) workers: Workers,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) buckets: Vec<Bucket>,
    pub(crate) databases: Vec<Database>,
    pub(crate) store: Store,
}

impl World {
    /// The starting content: one account, `example.com` and `example.org` with a few records.
    pub(crate) fn new(options: &Options, now: Timestamp) -> Self {
        let mut ids = Ids::new(options.seed);
        let user = User::new(&mut ids, now);
        let account = Account::new(&mut ids, "Example Account", now);
        let zones = ["example.com", "example.org"].map(|name| {
            let mut zone = Zone::new(&mut ids, name, &account, now);
            zone.records = Record::starting(&mut ids, name, now);
            zone
        });
        Self {
            tokens: Tokens::new(&mut ids, &options.tokens, options.global_key.clone(), now),
            user,
            accounts: vec![account],
            zones: zones.into(),
            registrar: Registrar::new(options.registration_wait),
            workers: Workers::default(),
            namespaces: Vec::new(),
            buckets: Vec::new(),
            databases: Vec::new(),
            store: Store::default(),
            ids,
        }
    }

    /// The account in the call's path.
    pub(crate) fn account(&self, call: &Call<'_>) -> Result<&Account, Refusal> {
        let id = call.param("account_id");
        let found = self.accounts.iter().find(|account| account.id == id);
        found.ok_or_else(|| Refusal::forbidden(10_000, "Authentication error"))
    }

    /// The zone in the call's path.
    pub(crate) fn zone(&mut self, call: &Call<'_>) -> Result<&mut Zone, Refusal> {
        let id = call.param("zone_id");
        let found = self.zones.iter_mut().find(|zone| zone.id == id);
        found.ok_or_else(|| Refusal::missing(1001, "Invalid zone identifier"))
    }
}

/// Bytes that callers stored: values, objects, modules.
#[derive(Debug, Default)]
pub(crate) struct Store {
    bytes: usize,
}

impl Store {
    /// Makes room for `new` bytes in place of `old`.
    pub(crate) fn replace(&mut self, old: usize, new: usize) -> Result<(), Refusal> {
        let after = self.bytes.saturating_sub(old).saturating_add(new);
        if after > STORED_MAX {
            let status = StatusCode::INSUFFICIENT_STORAGE;
            return Err(Refusal::new(status, 507, "The stand-in has no room for more bytes"));
        }
        self.bytes = after;
        Ok(())
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Refuses another `what` when there are `max` already.
pub(crate) fn room_for(what: &str, count: usize, max: usize) -> Result<(), Refusal> {
    if count < max {
        return Ok(());
    }
    Err(Refusal::bad(10_016, format!("You have reached the limit of {max} {what}")))
}

/// Whether `text` is an identifier of an account, a zone, a token or a record.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A year as registries count it here: 365 days.
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Bytes stored at once, in all places together.
const STORED_MAX: usize = 512 * 1024 * 1024;
