//! The contests again, by real threads: no runtime shared, no turn taken.

use std::sync::{Arc, Barrier};

use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, TaskKind,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, StoreError, Stores};
use foreman_core::testkit::conformance::Subject;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

const THREADS: i64 = 16;
const INCREMENTS: i64 = 8;

/// Every thread adds ones under compare-and-swap; every one of them counts.
fn no_increment_of_a_thread_is_lost(subject: &dyn Subject) {
    let key = Key::namespaced("default", "counter");
    let spec = AgenticTaskSpec::new(TaskKind::Freeform, AgenticTaskPayload::default());
    let stores = subject.stores();
    block_on(stores.tasks.create(NewObject::new(key.clone(), spec))).expect("create");
    let start = Arc::new(Barrier::new(usize::try_from(THREADS).expect("16 fits")));
    let handles = [subject.stores(), subject.second_handle()];
    let threads: Vec<_> = (0..THREADS)
        .zip(handles.iter().cycle())
        .map(|(_, stores)| {
            let (stores, key, start) = (stores.clone(), key.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                (0..INCREMENTS).for_each(|_| block_on(increment(&stores, &key)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("the thread ends well");
    }
    let counted = block_on(stores.tasks.get(&key)).expect("get").expect("present");
    assert_eq!(counted.status.attempt, Some(THREADS * INCREMENTS));
}

async fn increment(stores: &Stores, key: &Key) {
    loop {
        let read = stores.tasks.get(key).await.expect("get").expect("present");
        let next = read.status.attempt.unwrap_or(0) + 1;
        let change = Change::<AgenticTask>::of(Part::Status).set("attempt", next);
        match stores.tasks.patch(key, change, Expect::At(read.revision().clone())).await {
            Ok(_) => return,
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn memory() {
    no_increment_of_a_thread_is_lost(&super::Memory::new());
}

#[test]
fn sqlite_by_two_handles() {
    no_increment_of_a_thread_is_lost(&super::Sqlite::new());
}
