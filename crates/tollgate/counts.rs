//! Where limits are counted: in the node, or with others in Redis.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use ledger::{Embedded, Fleet, Ledger};
use model::Clock;
use telemetry::prometheus::Registry;
use tokio_util::task::TaskTracker;

use crate::listen;
use crate::settings::{Settings, Store};

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
            directory: None,
            patience: ledger::PATIENCE,
            metrics: ledger::Metrics::default(),
        })))
    }

    /// The ledger over the node's own counts. The tasks are those that speak to Redis.
    pub(crate) fn over(
        self,
        own: &Arc<Embedded>,
        directory: &Path,
        clock: &Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> (Ledger, TaskTracker) {
        let tasks = TaskTracker::new();
        let Some(options) = self.0 else {
            return (Ledger::embedded(Arc::clone(own)), tasks);
        };
        options.metrics.register(registry);
        let options = ledger::Options { directory: Some(directory.to_owned()), ..options };
        let fleet = Fleet::start(options, Arc::clone(clock), &tasks);
        (Ledger::shared(Arc::clone(own), fleet), tasks)
    }
}
