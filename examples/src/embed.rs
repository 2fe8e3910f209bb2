//! Foreman in a program of one's own: control loops, one node, its executor. `cargo run --bin embed`

use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::control::{Foreman, Shutdown};
use foreman_core::fleet::{CompositeProbe, Identity};
use foreman_core::memory::MemoryStore;
use foreman_core::model::{
    AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, NodeName, TaskKind,
};
use foreman_core::ports::{Executor, Job, Progress, RunEnd, Stop, Stores};
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
        RunEnd::go(job.task.spec.payload.prompt.unwrap_or_default().to_uppercase())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = Arc::new(SystemClock::new());
    let stores = Stores::of(&MemoryStore::new(clock.clone()));
    let prompt = Some("hello, fleet".to_owned());
    let payload = AgenticTaskPayload { prompt, ..Default::default() };
    let spec = AgenticTaskSpec::new(TaskKind::Freeform, payload);
    let key = Key::namespaced("default", "greet");
    stores.tasks.create(NewObject::new(key.clone(), spec)).await?;

    let me = Identity::named(NodeName::parse("laptop")?);
    let probe = Arc::new(CompositeProbe::new(Vec::new()));
    let foreman = Foreman::builder(stores.clone(), clock, Arc::new(SystemEntropy))
        .node(me, probe, Arc::new(Shout))
        .build()?;
    let (drain, shutdown) = watch::channel(Shutdown::No);
    let (ran, ended) = tokio::join!(foreman.run(shutdown), async {
        let ended = stores.wait_for_end(&key).await;
        drain.send_replace(Shutdown::Drain);
        ended
    });
    ran?;
    let said = ended?.finished_message().unwrap_or_default().to_owned();
    Ok(writeln!(std::io::stdout(), "{said}")?)
}
