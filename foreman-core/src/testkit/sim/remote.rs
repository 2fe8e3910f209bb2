//! A git server with pull requests and comments, reached over a wire that delays and loses. It
//! refuses a push whose lease is not what the ref is, as a git server does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::chance::{Chance, Counts};
use super::engine::{Engine, Instant, lock};
use super::reply::Reply;
use super::truth::Truth;
use crate::model::ids::{Attempt, Uid};

/// A commit at the head of a branch, with what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) sha: u64,
    pub(crate) uid: Uid,
    pub(crate) attempt: Attempt,
}

/// What was asked of the server.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// What a branch is.
    Read { branch: String },
    /// Moves a branch, if it still is what the lease says. The run saw the branch first at `began`.
    Push { branch: String, lease: Option<u64>, commit: Commit, began: Instant },
    /// Whether there is a pull request of that head.
    FindPull { head: String },
    /// Makes one.
    OpenPull { head: String, uid: Uid },
    /// Whether a comment with that marker is there.
    FindComment { marker: String },
    /// Posts one.
    Comment { marker: String, uid: Uid },
}

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// The branch's head.
    Head(Option<Commit>),
    /// The branch is not what the lease said.
    Moved,
    /// Done, or there.
    Yes,
    /// Not there.
    No,
    /// A pull request of that head exists already.
    Exists,
}

/// A push that the server took.
pub(crate) struct Push<'a> {
    pub(crate) branch: &'a str,
    /// What the branch was.
    pub(crate) before: Option<&'a Commit>,
    pub(crate) commit: &'a Commit,
    /// When the run that pushes first looked at the branch.
    pub(crate) began: Instant,
    /// When the push left its machine.
    pub(crate) sent: Instant,
}

/// No answer: it was done or it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAnswer;

#[derive(Default)]
struct Content {
    refs: BTreeMap<String, Commit>,
    pulls: BTreeMap<String, Uid>,
    comments: BTreeMap<String, u32>,
}

/// See the module.
pub(crate) struct Remote {
    engine: Arc<Engine>,
    truth: Arc<Truth>,
    counts: Arc<Counts>,
    content: Mutex<Content>,
    chance: Mutex<Chance>,
    lossy: Mutex<u32>,
}

type Answer = Result<Said, NoAnswer>;

impl Remote {
    pub(crate) fn new(
        engine: Arc<Engine>,
        truth: Arc<Truth>,
        counts: Arc<Counts>,
        seed: u64,
        lossy: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            engine,
            truth,
            counts,
            content: Mutex::default(),
            chance: Mutex::new(Chance::stream(seed, "remote")),
            lossy: Mutex::new(lossy),
        })
    }

    /// Nothing is lost any more.
    pub(crate) fn heal(&self) {
        *lock(&self.lossy) = 0;
    }

    /// The moment, as the checks count it.
    pub(crate) fn now(&self) -> Instant {
        self.engine.now()
    }

    /// Asks the server. What was sent is done or not whatever becomes of the sender.
    pub(crate) async fn ask(self: &Arc<Self>, ask: Ask) -> Answer {
        let (there, back, fate, patience) = {
            let mut chance = lock(&self.chance);
            let (low, high) = (Duration::from_millis(20), Duration::from_secs(15));
            let lossy = *lock(&self.lossy);
            let fate = u32::try_from(chance.below(1000)).unwrap_or_default();
            let patience = chance.duration(Duration::from_secs(5), Duration::from_secs(20));
            let there = chance.skewed(low, high);
            let back = chance.skewed(low, high);
            (there, back, (fate < lossy, fate < 2 * lossy), patience)
        };
        let reply = Reply::default();
        let sent = self.engine.now();
        let (remote, engine, slot) = (self.clone(), self.engine.clone(), reply.clone());
        self.engine.after(there, move || {
            let lost = fate.0;
            if lost {
                remote.counts.add("push or lookup lost");
                engine.after(patience, move || slot.give(Err(NoAnswer)));
                return;
            }
            let said = remote.answer(ask, sent);
            if fate.1 {
                remote.counts.add("remote's answer lost");
                engine.after(patience, move || slot.give(Err(NoAnswer)));
            } else {
                engine.after(back, move || slot.give(Ok(said)));
            }
        });
        reply.await
    }

    fn answer(&self, ask: Ask, sent: Instant) -> Said {
        let now = self.engine.now();
        let mut content = lock(&self.content);
        match ask {
            Ask::Read { branch } => Said::Head(content.refs.get(&branch).cloned()),
            Ask::Push { branch, lease, commit, began } => {
                let here = content.refs.get(&branch).map(|commit| commit.sha);
                if here == Some(commit.sha) {
                    return Said::Yes;
                }
                if here != lease {
                    self.counts.add("push refused");
                    return Said::Moved;
                }
                let before = content.refs.insert(branch.clone(), commit.clone());
                drop(content);
                let push =
                    Push { branch: &branch, before: before.as_ref(), commit: &commit, began, sent };
                self.truth.pushed(now, &push);
                Said::Yes
            }
            Ask::FindPull { head } => {
                if content.pulls.contains_key(&head) {
                    Said::Yes
                } else {
                    Said::No
                }
            }
            Ask::OpenPull { head, uid } => {
                if content.pulls.contains_key(&head) {
                    return Said::Exists;
                }
                content.pulls.insert(head.clone(), uid.clone());
                drop(content);
                self.truth.opened(now, &head, &uid);
                Said::Yes
            }
            Ask::FindComment { marker } => {
                if content.comments.contains_key(&marker) {
                    Said::Yes
                } else {
                    Said::No
                }
            }
            Ask::Comment { marker, uid } => {
                let times = content.comments.entry(marker.clone()).or_default();
                *times += 1;
                let times = *times;
                drop(content);
                self.truth.commented(now, &marker, &uid, times);
                Said::Yes
            }
        }
    }
}
