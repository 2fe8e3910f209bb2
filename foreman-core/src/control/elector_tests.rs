use std::sync::Mutex;
use std::time::Duration;

use futures::future;

use super::*;
use crate::memory::MemoryLeases;
use crate::testkit::sim::{SimClock, SimEntropy};
use crate::timing::{LEADER_ACTS, LEASE, LEASE_LOOK};

const TICK: Duration = Duration::from_millis(500);

/// Who began to lead and who ended, in order.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn say(&self, what: &str, who: &str) {
        self.0.lock().expect("no panic").push(format!("{what} {who}"));
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

async fn ticks(clock: &SimClock, time: Duration) {
    let mut passed = Duration::ZERO;
    while passed < time {
        clock.advance(TICK);
        passed += TICK;
        settle().await;
    }
}

async fn lead(log: &Log, who: &str, leadership: Leadership, mut stop: watch::Receiver<bool>) {
    log.say("begins", who);
    assert!(leadership.holds());
    {
        let lost = pin!(leadership.lost());
        let stopped = pin!(stop.wait_for(|stop| *stop));
        future::select(lost, stopped).await;
    }
    log.say("ends", who);
}

fn elector(leases: &Arc<MemoryLeases>, clock: &Arc<SimClock>, name: &str) -> Elector {
    Elector::new(leases.clone(), clock.clone(), &*SimEntropy::new(3), name)
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_at_once_and_one_that_is_not_after_a_whole_lease() {
    let (clock, leases, log) = (SimClock::new(), MemoryLeases::new(), Log::default());
    let (stop_a, stop_b) = (watch::channel(false).0, watch::channel(false).0);
    let electors = ["a", "b"].map(|name| elector(&leases, &clock, name));
    let a = electors[0].run(stop_a.subscribe(), |l| lead(&log, "a", l, stop_a.subscribe()));
    let b = electors[1].run(stop_b.subscribe(), |l| lead(&log, "b", l, stop_b.subscribe()));
    let story = async {
        settle().await;
        ticks(&clock, 3 * LEASE).await;
        assert_eq!(log.lines(), ["begins a"]);
        stop_a.send_replace(true);
        settle().await;
        assert_eq!(leases.read().await.expect("read").expect("there").record.holder, None);
        ticks(&clock, LEASE_LOOK).await;
        assert_eq!(log.lines(), ["begins a", "ends a", "begins b"]);
        let record = leases.read().await.expect("read").expect("there").record;
        assert_eq!(record.holder.as_deref(), Some(electors[1].identity()));
        assert_eq!(record.transitions, 1);
        stop_b.send_replace(true);
    };
    tokio::join!(a, b, story);
    assert_eq!(log.lines(), ["begins a", "ends a", "begins b", "ends b"]);
}

#[tokio::test]
async fn whoever_slept_acts_no_longer_and_leads_again_only_by_a_new_renewal() {
    let (clock, leases, log) = (SimClock::new(), MemoryLeases::new(), Log::default());
    let stop = watch::channel(false).0;
    let kept: Mutex<Option<Arc<Leadership>>> = Mutex::new(None);
    let elector = elector(&leases, &clock, "a");
    let run = elector.run(stop.subscribe(), |leadership| {
        let leadership = Arc::new(leadership);
        *kept.lock().expect("no panic") = Some(leadership.clone());
        log.say("begins", "a");
        async move { leadership.lost().await }
    });
    let story = async {
        settle().await;
        let first = kept.lock().expect("no panic").take().expect("leads");
        assert!(first.holds());
        clock.asleep(LEADER_ACTS);
        assert!(!first.holds());
        let write = first.in_time(async { panic!("a write began without the right to it") });
        assert_eq!(write.await, None::<()>);
        ticks(&clock, LEASE).await;
        assert_eq!(log.lines(), ["begins a", "begins a"]);
        assert!(!first.holds(), "an old right does not come back");
        assert!(kept.lock().expect("no panic").take().expect("leads").holds());
        stop.send_replace(true);
        ticks(&clock, LEASE).await;
    };
    // Told to stop, it waits for what it leads, which here waits for the loss: never two at once.
    future::select(pin!(run), pin!(story)).await;
}

#[tokio::test]
async fn a_write_without_an_answer_is_given_up_before_anybody_else_may_begin() {
    let clock = SimClock::new();
    let until = Some(clock.boot() + LEADER_ACTS);
    let (_keep, acts_until) = watch::channel(until);
    let leadership = Leadership { clock: clock.clone(), acts_until };
    let story = async {
        settle().await;
        clock.advance(LEADER_WRITE);
    };
    let never = leadership.in_time(future::pending::<()>());
    let (answer, ()) = tokio::join!(never, story);
    assert_eq!(answer, None);
    assert_eq!(leadership.in_time(async { 7 }).await, Some(7));
    // The write is about to be sent when the machine falls asleep.
    let sent = std::cell::Cell::new(false);
    let slow = leadership.in_time(async {
        tokio::task::yield_now().await;
        sent.set(true);
    });
    let mut slow = pin!(slow);
    assert!(futures::poll!(slow.as_mut()).is_pending());
    clock.asleep(LEADER_WRITE);
    assert_eq!(slow.await, None);
    assert!(!sent.get());
}
