//! What the world outside sees of a scripted run: pushes, pull requests, comments. Each under a permit, and
//! what was begun is looked up before it is repeated.

use futures::future::FutureExt;

use super::{AGAIN, Over, PATIENCE, Play};
use crate::model::{TaskKind, Verdict};
use crate::ports::executor::RunEnd;
use crate::testkit::sim::chance::Chance;
use crate::testkit::sim::disk::Lease;
use crate::testkit::sim::ends;
use crate::testkit::sim::remote::{Ask, Commit, NoAnswer, Said};

impl Play<'_> {
    fn branch(&self) -> String {
        let named = self.job.task.spec.payload.branch.clone();
        named.unwrap_or_else(|| format!("foreman/{}", self.job.task.key()))
    }

    /// What the world outside sees of the run.
    pub(super) async fn effects(&mut self) -> Result<(), Over> {
        let verdict = ends::finish(self.plan.end).verdict;
        let kind = self.job.task.spec.kind.known();
        match kind {
            Some(TaskKind::IssueFix) if self.pushes() => self.push().await,
            Some(TaskKind::Review) => {
                if verdict == Verdict::Go {
                    self.once("pull request").await?;
                }
                self.once("comment").await
            }
            _ => Ok(()),
        }
    }

    /// Leave to do an effect now.
    async fn permit(&mut self, effect: &'static str) -> Result<crate::Permit, Over> {
        let began = self.script.clock.awake();
        loop {
            match self.authority.permit(effect).await {
                Ok(permit) => {
                    self.script.counts.add("permit given");
                    return Ok(permit);
                }
                Err(refused) if refused.may_pass() => {
                    self.script.counts.add("permit waits");
                    if self.script.clock.awake().since(began) > PATIENCE {
                        return Err(self.release(ends::infrastructure("no permit came")));
                    }
                    self.wait(AGAIN).await?;
                    self.stopped()?;
                }
                Err(crate::Refused::Cancelled { .. }) => {
                    return Err(self.finish(Some(ends::cancelled())));
                }
                Err(_) => {
                    self.script.counts.add("permit refused");
                    return Err(Box::new(RunEnd::Lost));
                }
            }
        }
    }

    /// Asks the server; while a permit is held, it is looked at each second, and the effect is left
    /// when it holds no longer.
    async fn ask(&mut self, ask: Ask, permit: Option<&crate::Permit>) -> Result<Said, NoAnswer> {
        let remote = self.script.remote.clone();
        let mut asked = Box::pin(remote.ask(ask).fuse());
        let clock = self.script.clock.clone();
        loop {
            let look = async {
                match permit {
                    Some(_) => clock.sleep(crate::PERMIT_CHECK).await,
                    None => std::future::pending().await,
                }
            };
            futures::select_biased! {
                said = asked => return said,
                () = look.fuse() => {
                    if permit.is_some_and(|permit| !permit.still_holds()) {
                        self.script.counts.add("effect left: permit over");
                        return Err(NoAnswer);
                    }
                }
            }
        }
    }

    fn pushes(&self) -> bool {
        let go = ends::finish(self.plan.end).verdict == Verdict::Go;
        go && self.job.task.spec.kind.is(TaskKind::IssueFix)
    }

    /// What the branch is before the first turn: a push may replace that, and nothing that comes after.
    pub(super) async fn look_at_the_branch(&mut self) -> Result<(), Over> {
        let asked = self.script.clock.awake();
        while self.pushes() && self.journal().lease == Lease::Unknown {
            if self.script.clock.awake().since(asked) > PATIENCE {
                return Err(self.release(ends::infrastructure("the remote is away")));
            }
            match self.ask(Ask::Read { branch: self.branch() }, None).await {
                Ok(Said::Head(head)) => self.write(|journal| {
                    journal.lease = head.map_or(Lease::Absent, |head| Lease::At(head.sha));
                    journal.began = self.script.remote.now();
                })?,
                _ => self.wait(AGAIN).await?,
            }
        }
        Ok(())
    }

    async fn push(&mut self) -> Result<(), Over> {
        let branch = self.branch();
        let fence = self.job.fence.clone();
        let began = self.script.clock.awake();
        while self.journal().effects.get("push") != Some(&true) {
            if self.script.clock.awake().since(began) > PATIENCE {
                return Err(self.release(ends::infrastructure("the remote is away")));
            }
            let Ok(Said::Head(head)) = self.ask(Ask::Read { branch: branch.clone() }, None).await
            else {
                self.wait(AGAIN).await?;
                continue;
            };
            let sha = self.journal().lease;
            let ours = |head: &Commit| head.uid == fence.uid;
            match head {
                // Looked up: what was begun was done.
                Some(head) if ours(&head) && self.journal().effects.contains_key("push") => {
                    self.write(|journal| {
                        journal.effects.insert("push", true);
                    })?;
                    return Ok(());
                }
                Some(head) if ours(&head) && head.attempt > fence.attempt => {
                    return Err(Box::new(RunEnd::Lost));
                }
                // A lower attempt of the same task may be replaced.
                Some(head) if ours(&head) => {
                    self.write(|journal| journal.lease = Lease::At(head.sha))?;
                }
                head => {
                    let here = head.map_or(Lease::Absent, |head| Lease::At(head.sha));
                    if sha != here {
                        return Err(self.finish(Some(ends::push_refused())));
                    }
                }
            }
            let permit = self.permit("push").await?;
            self.write(|journal| {
                journal.effects.insert("push", false);
            })?;
            let (lease, began) = (self.journal().lease.sha(), self.journal().began);
            let attempt = fence.attempt;
            let sha = Chance::stream(self.script.seed, &format!("{}/{attempt}", fence.uid)).next();
            let commit = Commit { sha, uid: fence.uid.clone(), attempt };
            let ask = Ask::Push { branch: branch.clone(), lease, commit, began };
            match self.ask(ask, Some(&permit)).await {
                Ok(Said::Yes) => self.write(|journal| {
                    journal.effects.insert("push", true);
                })?,
                _ => self.wait(AGAIN).await?,
            }
        }
        Ok(())
    }

    /// A pull request or a comment: looked up, then made.
    async fn once(&mut self, effect: &'static str) -> Result<(), Over> {
        let uid = self.job.fence.uid.clone();
        let name = format!("{}/{uid}", self.branch());
        let began = self.script.clock.awake();
        while self.journal().effects.get(effect) != Some(&true) {
            if self.script.clock.awake().since(began) > PATIENCE {
                return Err(self.release(ends::infrastructure("the forge is away")));
            }
            let (find, make) = if effect == "comment" {
                let marker = name.clone();
                (
                    Ask::FindComment { marker: name.clone() },
                    Ask::Comment { marker, uid: uid.clone() },
                )
            } else {
                let head = name.clone();
                (Ask::FindPull { head: name.clone() }, Ask::OpenPull { head, uid: uid.clone() })
            };
            let is_there = match self.ask(find, None).await {
                Ok(Said::Yes) => true,
                Ok(_) => {
                    let permit = self.permit(effect).await?;
                    self.write(|journal| {
                        journal.effects.insert(effect, false);
                    })?;
                    matches!(self.ask(make, Some(&permit)).await, Ok(Said::Yes | Said::Exists))
                }
                Err(NoAnswer) => false,
            };
            if is_there {
                self.write(|journal| {
                    journal.effects.insert(effect, true);
                })?;
            } else {
                self.wait(AGAIN).await?;
            }
        }
        Ok(())
    }
}
