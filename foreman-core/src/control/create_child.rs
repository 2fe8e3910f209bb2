//! Creating a child for a workload that is still there. Tasks and workloads are watched apart, so a
//! task can be seen to be gone before the workload is whose deletion took it away.

use super::answer::{Answer, not_read};
use super::reconciler::Reconciler;
use crate::model::agentic_task::AgenticTask;
use crate::model::ids::{Key, Uid};
use crate::model::object::NewObject;
use crate::ports::store::{Expect, StoreError};

impl Reconciler {
    /// Creates a child if its owner is there before and after. A child that came too late for the
    /// cascade of its owner's deletion is deleted here: nobody else would.
    pub(super) async fn create_child(
        &self,
        workload: &Key,
        owner: &Uid,
        new: NewObject<AgenticTask>,
    ) -> Answer<AgenticTask> {
        let key = new.key.clone();
        match self.is_there(workload, owner).await {
            Ok(true) => {}
            // Tried again later, should the watch go on showing it.
            Ok(false) => return Answer::Refused(StoreError::NotFound),
            Err(error) => return not_read::<AgenticTask>(workload, error),
        }
        let answer = self.stores.tasks.create(new).await;
        let answer = self.answer(&*self.stores.tasks, &key, answer).await;
        let Answer::Written(child) = &answer else { return answer };
        // An owner that cannot be read now is taken to be there: it was a moment ago.
        if self.is_there(workload, owner).await.unwrap_or(true) {
            return answer;
        }
        match self.stores.tasks.delete(&key, &child.meta.uid, Expect::Any).await {
            Ok(()) | Err(StoreError::NotFound) => Answer::Refused(StoreError::NotFound),
            Err(error) => {
                tracing::warn!(task = %key, %error, "a task without its workload could not be deleted");
                answer
            }
        }
    }

    async fn is_there(&self, workload: &Key, owner: &Uid) -> Result<bool, StoreError> {
        let found = self.stores.workloads.get(workload).await?;
        Ok(found.is_some_and(|found| {
            found.meta.uid == *owner && found.meta.deletion_timestamp.is_none()
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::MemoryStore;
    use crate::model::agentic_task::{AgenticTaskPayload, AgenticTaskSpec, TaskKind};
    use crate::model::workload::WorkloadSpec;
    use crate::ports::recorder::LogRecorder;
    use crate::ports::store::Stores;
    use crate::testkit::sim::SimClock;

    fn wanted() -> WorkloadSpec {
        WorkloadSpec { intent: "greet".into(), ..WorkloadSpec::default() }
    }

    fn child() -> NewObject<AgenticTask> {
        let spec = AgenticTaskSpec::new(TaskKind::IssueFix, AgenticTaskPayload::default());
        NewObject::new(Key::namespaced("default", "w-code"), spec)
    }

    #[tokio::test]
    async fn no_child_is_made_for_a_workload_that_is_gone() {
        let clock = SimClock::new();
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let reconciler = Reconciler::new(stores.clone(), clock, Arc::new(LogRecorder));
        let key = Key::namespaced("default", "w");
        let new = NewObject::new(key.clone(), wanted());
        let owner = stores.workloads.create(new).await.expect("created").meta.uid;

        let made = reconciler.create_child(&key, &owner, child()).await;
        assert!(matches!(made, Answer::Written(_)));
        let task = child().key;
        let uid = stores.tasks.get(&task).await.expect("read").expect("made").meta.uid;
        stores.tasks.delete(&task, &uid, Expect::Any).await.expect("deleted");

        stores.workloads.delete(&key, &owner, Expect::Any).await.expect("deleted");
        let made = reconciler.create_child(&key, &owner, child()).await;
        assert!(matches!(made, Answer::Refused(StoreError::NotFound)));
        assert!(stores.tasks.get(&task).await.expect("read").is_none());

        // Somebody made another one of that name.
        let new = NewObject::new(key.clone(), wanted());
        stores.workloads.create(new).await.expect("created");
        let made = reconciler.create_child(&key, &owner, child()).await;
        assert!(matches!(made, Answer::Refused(StoreError::NotFound)));
        assert!(stores.tasks.get(&task).await.expect("read").is_none());
    }
}
