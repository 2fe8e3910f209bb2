//! Foreman in a program of one's own: control loops, one node, its executor. `cargo run --bin embed`
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::control::{Foreman, Shutdown};
use foreman_core::fleet::{CompositeProbe, Identity};
use foreman_core::memory::MemoryStore;
use foreman_core::model::outcome::{Decision, Infrastructure, Outcome, Verdict, Verification};
use foreman_core::model::{
    AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, NodeName, TaskKind,
};
use foreman_core::ports::{Executor, Finish, Job, Progress, RunEnd, Stop, Stores};
use foreman_probe::os_clock::{SystemClock, SystemEntropy};
use tokio::sync::watch;

struct Shout;

#[async_trait]
impl Executor for Shout {
    async fn run(
        &self,
        job: Job,
        _: Arc<foreman_core::Authority>,
        _: watch::Sender<Progress>,
        _: watch::Receiver<Stop>,
    ) -> RunEnd {
        let said = job
            .task
            .spec
            .payload
            .prompt
            .unwrap_or_default()
            .to_uppercase();
        RunEnd::Finished(Box::new(Finish::new(
            Verdict::Go,
            Outcome {
                decision: Decision::Go,
                verification: Verification::NotApplicable,
                infrastructure: Infrastructure::Ok,
                reason: None,
            },
            said,
        )))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Arc::new(SystemClock::new());
    let store = Stores::of(&MemoryStore::new(clock.clone()));
    let payload = AgenticTaskPayload {
        prompt: Some("hello, fleet".into()),
        ..Default::default()
    };
    let task = AgenticTaskSpec::new(TaskKind::Freeform, payload);
    let key = Key::namespaced("default", "greet");
    store
        .tasks
        .create(NewObject::new(key.clone(), task))
        .await?;
    let me = Identity::named(NodeName::parse("laptop")?);
    let foreman = Foreman::builder(store.clone(), clock, Arc::new(SystemEntropy))
        .node(
            me,
            Arc::new(CompositeProbe::new(Vec::new())),
            Arc::new(Shout),
        )
        .build()?;
    let (drain, shutdown) = watch::channel(Shutdown::No);
    let (ran, ended) = tokio::join!(foreman.run(shutdown), async {
        let ended = store.wait_for_end(&key).await;
        drain.send_replace(Shutdown::Drain);
        ended
    });
    ran?;
    let conditions = ended?.status.conditions;
    let result = conditions
        .iter()
        .find(|condition| condition.kind == "Finished");
    let said = result.map_or("nothing", |condition| condition.message.as_str());
    Ok(writeln!(std::io::stdout(), "{said}")?)
}
