//! Where limits are counted: in the node, or with others in Redis.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ledger::repeat::Repeats;
use ledger::{Embedded, Fleet, Ledger, Place, QuotaMetrics, Quotas};
use model::{Clock, Entropy};
use rules::Snapshot;
use telemetry::prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen;
use crate::settings::{Settings, Store};

/// Everything that counts requests.
pub(crate) struct Counts {
    pub(crate) ledger: Ledger,
    pub(crate) quotas: Quotas,
    /// What is remembered of requests that may be repeated: where limits are counted.
    pub(crate) repeats: Repeats,
    /// What speaks to Redis, and what holds who waits for an upstream.
    pub(crate) tasks: TaskTracker,
}

/// What the settings say of Redis, read and checked.
pub(crate) struct Named(Option<ledger::Options>);

impl Named {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let Some(Store { address, ca, organisation }) = &settings.store else {
            return Ok(Self(None));
        };
        let client = rustls::ClientConfig::builder();
        let client = client.with_root_certificates(listen::roots(ca.as_deref())?);
        Ok(Self(Some(ledger::Options {
            address: address.clone(),
            tls: Arc::new(client.with_no_client_auth()),
            organisation: organisation.clone(),
            node: Arc::from(settings.node.as_str()),
            directory: None,
            patience: ledger::PATIENCE,
            metrics: ledger::Metrics::default(),
            budgets: ledger::BudgetMetrics::default(),
            place: None,
        })))
    }

    /// The same for a node that has a place in a cluster.
    pub(crate) fn among(self, place: Option<Place>) -> Self {
        Self(self.0.map(|options| ledger::Options { place, ..options }))
    }

    /// The ledger over the node's own counts.
    pub(crate) fn over(
        self,
        own: &Arc<Embedded>,
        directory: &Path,
        (clock, entropy): (&Arc<dyn Clock>, &dyn Entropy),
        registry: &mut Registry,
    ) -> Result<Counts> {
        let tasks = TaskTracker::new();
        let start = |options: ledger::Options| -> Result<Fleet> {
            options.metrics.register(registry);
            let node = name(directory, &options.node, entropy)?;
            let directory = Some(directory.to_owned());
            let budgets = own.accounts().metrics().clone();
            let options = ledger::Options { directory, node, budgets, ..options };
            Ok(Fleet::start(options, Arc::clone(clock), &tasks)?)
        };
        let fleet = self.0.map(start).transpose()?;
        let metrics = QuotaMetrics::default();
        metrics.register(registry);
        let mut node = [0; 8];
        entropy.fill(&mut node).context("cannot read random bytes")?;
        let (node, places) = (u64::from_le_bytes(node), (Arc::clone(own), fleet.clone()));
        let quotas = Quotas::start(places, node, metrics, Arc::clone(clock), &tasks);
        let mut repeats = Repeats::open(directory, Arc::clone(clock))?;
        if let Some(fleet) = &fleet {
            repeats = repeats.shared(fleet.clone());
        }
        let ledger = match fleet {
            None => Ledger::embedded(Arc::clone(own)),
            Some(fleet) => Ledger::shared(Arc::clone(own), fleet),
        };
        Ok(Counts { ledger, quotas, repeats, tasks })
    }
}

/// Lets the node take part in its fleet's money as soon as there is a budget, so that its first
/// request finds it ready, and tells it what budgets say.
pub(crate) async fn begin_money(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    fleet: Fleet,
    stop: CancellationToken,
) {
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        fleet.know(snapshot.budgets.all());
        if !snapshot.budgets.is_empty() {
            fleet.begin_money();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}

/// What the fleet calls this node: its own name with a few letters that are made once, since
/// nodes may share a name and never share what they have spent.
fn name(directory: &Path, node: &str, entropy: &dyn Entropy) -> Result<Arc<str>> {
    let path = directory.join("redis-node");
    if path.exists() {
        let kept = std::fs::read_to_string(&path);
        let kept = kept.with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(Arc::from(kept.trim()));
    }
    let mut bytes = [0; 4];
    entropy.fill(&mut bytes).context("cannot read random bytes")?;
    let node: String = node.chars().filter(char::is_ascii_graphic).take(NAME_MAX).collect();
    let name = format!("{node}-{:08x}", u32::from_le_bytes(bytes));
    listen::write_private(&path, name.as_bytes())?;
    Ok(Arc::from(name))
}

/// Letters of a node's own name.
const NAME_MAX: usize = 64;
