//! The requests of a core that are under way, so that they can be ended when their agent is
//! suspended: those that wait, those at the upstream, those whose answer still streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use model::{Code, Refusal, Timestamp};
use parking_lot::Mutex;
use rules::identity::Agent;
use rules::suspension::{Suspension, Suspensions};
use tokio::sync::watch;

/// Where a request stands among those under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Berth(usize);

/// The requests of a core: one place for each, and as many places as there were requests at once.
#[derive(Debug)]
pub(crate) struct Riders {
    /// Who is suspended.
    news: Mutex<News>,
    berths: Mutex<Berths>,
}

#[derive(Debug)]
struct News {
    watch: watch::Receiver<Arc<Suspensions>>,
    current: Arc<Suspensions>,
}

#[derive(Debug, Default)]
struct Berths {
    all: Vec<Option<Rider>>,
    free: Vec<usize>,
}

/// A request under way.
#[derive(Debug, Default)]
struct Rider {
    /// Whether it is known who asks; until then nobody can be meant.
    is_known: bool,
    /// Who asks; `None` where the route does not want to know.
    agent: Option<Arc<Agent>>,
    /// Set once it is to end.
    suspended: Option<Arc<Suspension>>,
    waker: Option<Waker>,
}

impl Riders {
    pub(crate) fn new(mut watch: watch::Receiver<Arc<Suspensions>>) -> Self {
        let current = Arc::clone(&watch.borrow_and_update());
        Self { news: Mutex::new(News { watch, current }), berths: Mutex::default() }
    }

    /// Takes a request in.
    pub(crate) fn enter(&self) -> Berth {
        self.berths.lock().take(Rider::default())
    }

    /// Notes who asks, and lets the request go on unless that is suspended.
    pub(crate) fn board(
        &self,
        berth: Berth,
        agent: Option<Arc<Agent>>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let mut berths = self.berths.lock();
        let Some(rider) = berths.rider(berth) else { return Ok(()) };
        (rider.is_known, rider.agent) = (true, agent);
        // Looked at after it stands here: who is suspended in between is found by `end`.
        let suspension = self.suspension(rider.agent.as_deref(), now);
        suspension.map_or(Ok(()), |suspension| Err(refusal(&suspension)))
    }

    /// Forgets a request that has ended.
    pub(crate) fn leave(&self, Berth(place): Berth) {
        let mut berths = self.berths.lock();
        if let Some(rider) = berths.all.get_mut(place) {
            *rider = None;
            berths.free.push(place);
        }
    }

    /// Why a request is to end; wakes whoever asks when that changes.
    pub(crate) fn poll_end(&self, berth: Berth, cx: &mut Context<'_>) -> Poll<Arc<Suspension>> {
        let mut berths = self.berths.lock();
        let Some(rider) = berths.rider(berth) else { return Poll::Pending };
        if let Some(suspension) = &rider.suspended {
            return Poll::Ready(Arc::clone(suspension));
        }
        match &mut rider.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether a request may go on.
    pub(crate) fn check(&self, berth: Berth) -> Result<(), Refusal> {
        let mut berths = self.berths.lock();
        let suspended = berths.rider(berth).and_then(|rider| rider.suspended.as_deref());
        suspended.map_or(Ok(()), |suspension| Err(refusal(suspension)))
    }

    /// Polls what a request waits for, unless the request is to end.
    pub(crate) fn poll<T>(
        &self,
        berth: Berth,
        onward: Pin<&mut impl Future<Output = Result<T, Refusal>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, Refusal>> {
        match onward.poll(cx) {
            Poll::Pending => self.poll_end(berth, cx).map(|suspension| Err(refusal(&suspension))),
            ready @ Poll::Ready(_) => ready,
        }
    }

    /// Ends the requests of everybody who gets suspended, as long as there is news.
    pub(crate) async fn keep(&self, now: impl Fn() -> Timestamp) {
        let mut watch = self.news.lock().watch.clone();
        while watch.changed().await.is_ok() {
            let suspensions = Arc::clone(&watch.borrow_and_update());
            let woken = self.berths.lock().end(&suspensions, now());
            woken.into_iter().for_each(Waker::wake);
        }
    }

    fn suspension(&self, agent: Option<&Agent>, now: Timestamp) -> Option<Arc<Suspension>> {
        let mut news = self.news.lock();
        // Few looks at the watch itself: its lock is shared by all cores.
        if news.watch.has_changed().unwrap_or(false) {
            let newest = Arc::clone(&news.watch.borrow_and_update());
            news.current = newest;
        }
        news.current.of(agent, now).cloned()
    }
}

impl Berths {
    fn take(&mut self, rider: Rider) -> Berth {
        if let Some(place) = self.free.pop()
            && let Some(berth) = self.all.get_mut(place)
        {
            *berth = Some(rider);
            return Berth(place);
        }
        self.all.push(Some(rider));
        Berth(self.all.len() - 1)
    }

    fn rider(&mut self, Berth(place): Berth) -> Option<&mut Rider> {
        self.all.get_mut(place)?.as_mut()
    }

    /// Marks the requests that are to end, and gives back who must be told.
    fn end(&mut self, suspensions: &Suspensions, now: Timestamp) -> Vec<Waker> {
        let riders = self.all.iter_mut().flatten();
        let riders = riders.filter(|rider| rider.is_known && rider.suspended.is_none());
        let ended = riders.filter_map(|rider| {
            rider.suspended = Some(Arc::clone(suspensions.of(rider.agent.as_deref(), now)?));
            rider.waker.take()
        });
        ended.collect()
    }
}

/// What the suspended are told.
pub(crate) fn refusal(suspension: &Suspension) -> Refusal {
    Refusal::new(Code::IdentitySuspended, format!("suspended: {}", suspension.reason))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::sync::Arc;

    use model::{AgentId, OrganisationId, Refusal, Timestamp};
    use rules::identity::Agent;
    use rules::plugin::Layer;
    use rules::suspension::{Suspension, Suspensions, Whom};
    use tokio::sync::watch;

    use super::Riders;

    fn agent(name: &str) -> Option<Arc<Agent>> {
        Some(Arc::new(Agent {
            id: AgentId::new(name),
            team: None,
            organisation: OrganisationId::new("acme"),
            plugins: Layer::default(),
            custom_id: None,
        }))
    }

    fn suspended(whom: &str) -> Arc<Suspensions> {
        let suspension = Suspension { reason: Arc::from("why"), until: None };
        Arc::new([(whom.parse::<Whom>().unwrap(), suspension)].into_iter().collect())
    }

    const NOW: Timestamp = Timestamp::from_micros(1);

    #[tokio::test]
    async fn who_waits_is_ended_and_others_wait_on() {
        let (tell, watch) = watch::channel(Arc::default());
        let riders = Riders::new(watch);
        let [alice, bob] = ["alice", "bob"].map(|name| {
            let berth = riders.enter();
            riders.board(berth, agent(name), NOW).unwrap();
            berth
        });
        let keeper = riders.keep(|| NOW);
        let mut forever = pin!(pending::<Result<(), Refusal>>());
        let waiting = poll_fn(|cx| riders.poll(alice, forever.as_mut(), cx));
        let told = async {
            tell.send_replace(suspended("agent/alice"));
            pending::<()>().await;
        };
        let ended = tokio::select! {
            biased;
            ended = waiting => ended,
            () = keeper => panic!("there may be more news"),
            () = told => panic!("it never ends"),
        };
        assert_eq!(ended.unwrap_err().code, model::Code::IdentitySuspended);
        let ended = poll_fn(|cx| std::task::Poll::Ready(riders.poll_end(bob, cx))).await;
        assert!(ended.is_pending());
    }

    #[test]
    fn who_is_suspended_does_not_enter_and_may_leave() {
        let (tell, watch) = watch::channel(suspended("agent/alice"));
        let riders = Riders::new(watch);
        let is_refused = |agent| {
            let berth = riders.enter();
            let boarded = riders.board(berth, agent, NOW);
            riders.leave(berth);
            boarded.is_err()
        };
        assert!(is_refused(agent("alice")));
        assert!(!is_refused(agent("bob")) && !is_refused(None));
        tell.send_replace(suspended("all"));
        assert!(is_refused(agent("bob")) && is_refused(None));
        tell.send_replace(Arc::default());
        assert!(!is_refused(agent("alice")));
    }

    #[test]
    fn a_place_is_used_again() {
        let (_tell, watch) = watch::channel(Arc::default());
        let riders = Riders::new(watch);
        for _ in 0..10 {
            riders.leave(riders.enter());
        }
        assert_eq!(riders.berths.lock().all.len(), 1);
    }
}
