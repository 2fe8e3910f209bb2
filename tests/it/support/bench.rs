//! A bench for runs: the real executor on a real claim in a `MemoryStore`, with real git, a real
//! sandbox and a model server on a socket. What the agent does around a run, the test does by hand.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::memory::MemoryStore;
use foreman_core::model::agent::{AgentRole, AgentSpec};
use foreman_core::model::outcome::Infrastructure;
use foreman_core::model::{
    Agent, AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Fence, Key, NewObject, NodeName,
    Object, Session, TaskKind,
};
use foreman_core::policy::Policy;
use foreman_core::ports::executor::{Executor, Finish, Job, Progress, ReleaseWhy, RunEnd, Stop};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Stores};
use foreman_core::{Authority, BeatBegan};
use foreman_probe::os_clock::SystemClock;
use foreman_runner::attempt::{
    EndpointError, Endpoints, ModelTarget, RunnerExecutor, RunnerSettings,
};
use foreman_runner::git::GitCredential;
use foreman_runner::model_client::{BaseUrl, CallMode};
use foreman_runner::observe::{RunEvent, RunObserver};
use foreman_runner::sandbox::Tier;
use foreman_runner::sandbox_probe;
use foreman_runner::workspace::Person;
use secrecy::SecretString;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use super::model_server::{Act, ModelServer};
use super::repository::Remote;
use super::within;

/// The key of the model server; must appear nowhere.
pub(crate) const API_KEY: &str = "sk-model-key-0123456789";
/// The node that all runs are on.
pub(crate) const NODE: &str = "bench";

/// The sandbox's helper.
pub(crate) fn helper() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sandbox-helper"))
}

/// What the sandbox of this machine holds, found out once.
pub(crate) async fn sandbox_tier() -> Tier {
    static TIER: OnceCell<Tier> = OnceCell::const_new();
    let probing = TIER.get_or_init(|| async {
        let scratch = tempfile::tempdir().expect("a folder");
        sandbox_probe::probe(Some(helper()), scratch.path()).await.tier
    });
    *probing.await
}

/// What runs told, in order.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    events: Mutex<Vec<RunEvent>>,
    count: watch::Sender<usize>,
}

impl RunObserver for Heard {
    fn event(&self, _: &Key, _: i64, event: RunEvent) {
        self.events.lock().expect("unpoisoned").push(event);
        self.count.send_modify(|count| *count += 1);
    }
}

impl Heard {
    /// Everything so far.
    pub(crate) fn all(&self) -> Vec<RunEvent> {
        self.events.lock().expect("unpoisoned").clone()
    }

    /// The texts of all notices.
    pub(crate) fn notices(&self) -> String {
        let notices = self.all().into_iter().filter_map(|event| {
            if let RunEvent::Notice { message } = event { Some(message) } else { None }
        });
        notices.collect::<Vec<_>>().join("\n")
    }

    /// Waits for an event.
    pub(crate) async fn once(&self, what: &str, wanted: impl Fn(&RunEvent) -> bool) {
        let mut count = self.count.subscribe();
        let waiting =
            count.wait_for(|_| self.events.lock().expect("unpoisoned").iter().any(&wanted));
        within(what, waiting).await.expect("the run lives");
    }
}

/// One model server for every Agent.
#[derive(Debug, Clone)]
pub(crate) struct Fixed(pub(crate) Result<ModelTarget, String>);

#[async_trait]
impl Endpoints for Fixed {
    async fn resolve(&self, _: &AgentSpec) -> Result<ModelTarget, EndpointError> {
        self.0.clone().map_err(|reason| EndpointError { reason })
    }
}

/// The bench.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) remote: Remote,
    pub(crate) model: ModelServer,
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) beat: watch::Sender<Option<BeatBegan>>,
    pub(crate) settings: RunnerSettings,
    pub(crate) agent: AgentSpec,
    pub(crate) endpoint: Fixed,
}

impl Bench {
    /// A bench with the broken greeting and this script of the model.
    pub(crate) async fn new(acts: Vec<Act>) -> Self {
        Self::on(acts, Remote::greeting).await
    }

    /// A bench with a repository of one's own.
    pub(crate) async fn on(acts: Vec<Act>, remote: impl FnOnce(&Path) -> Remote) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let remote = remote(folder.path());
        let model = ModelServer::new(acts).await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let stores = Stores::of(&MemoryStore::new(clock.clone()));
        let tier = sandbox_tier().await;
        let settings = RunnerSettings {
            data_dir: folder.path().join("data"),
            cache_dir: folder.path().join("cache"),
            helper: Some(helper()),
            sandbox_tier: tier,
            sandbox_required: tier.min(Tier::Network),
            sandbox_read: Vec::new(),
            sandbox_hide: Vec::new(),
            author: Person { name: "Ada".into(), email: "ada@example.org".into() },
            git_base_url: "https://git.invalid".into(),
            credential: GitCredential::None,
            secrets: vec![SecretString::from(API_KEY)],
            call_mode: CallMode::Native,
            policy: Policy::default(),
        };
        let endpoint = Fixed(Ok(ModelTarget {
            base_url: BaseUrl::parse(&model.url).expect("a URL"),
            model: "scripted".into(),
            context_tokens: None,
            api_key: Some(SecretString::from(API_KEY)),
            label: "scripted answers".into(),
        }));
        let mut agent = AgentSpec::new(AgentRole::Coder, all_tools());
        agent.max_retries = Some(0);
        let beat = watch::Sender::new(Some(BeatBegan::now(&*clock)));
        let heard = Arc::new(Heard::default());
        Self { folder, remote, model, stores, clock, heard, beat, settings, agent, endpoint }
    }

    /// The executor of one life of the process; its data outlives it.
    pub(crate) fn executor(&self) -> Arc<RunnerExecutor> {
        RunnerExecutor::new(
            self.settings.clone(),
            Arc::new(self.endpoint.clone()),
            self.heard.clone(),
            self.clock.clone(),
        )
    }

    /// A code task on the bench's repository.
    pub(crate) fn code(&self) -> AgenticTaskSpec {
        self.spec(TaskKind::IssueFix)
    }

    /// A task on the bench's repository.
    pub(crate) fn spec(&self, kind: TaskKind) -> AgenticTaskSpec {
        let payload = AgenticTaskPayload {
            repo: Some(self.remote.url()),
            branch: Some("foreman/fix".into()),
            prompt: Some("Greet the world when nobody is named.".into()),
            ..AgenticTaskPayload::default()
        };
        AgenticTaskSpec::new(kind, payload)
    }

    /// Creates a task.
    pub(crate) async fn task(&self, name: &str, spec: AgenticTaskSpec) -> Object<AgenticTask> {
        let new = NewObject::new(Key::namespaced("default", name), spec);
        self.stores.tasks.create(new).await.expect("created")
    }

    /// The task as it is now.
    pub(crate) async fn now(&self, key: &Key) -> Object<AgenticTask> {
        self.stores.tasks.get(key).await.expect("read").expect("there")
    }

    /// Claims a task as the agent does, for a session.
    pub(crate) async fn claim(&self, key: &Key, session: &str) -> (Object<AgenticTask>, Fence) {
        let task = self.now(key).await;
        let known = self.executor().highest_attempt(&task.meta.uid).await;
        let attempt = task.status.attempt.unwrap_or(0).max(known) + 1;
        let claimed_at = self.clock.wall().plus(Duration::from_secs(attempt.unsigned_abs()));
        let change = Change::of(Part::Status)
            .set("phase", "Running")
            .set("assignedNode", NODE)
            .set("attempt", attempt)
            .set("session", session)
            .set("claimedAt", claimed_at)
            .set("startedAt", claimed_at);
        let expect = Expect::At(task.revision().clone());
        let claimed = self.stores.tasks.patch(key, change, expect).await.expect("claimed");
        let fence = Fence {
            uid: claimed.meta.uid.clone(),
            attempt,
            session: Session::new(session),
            node: NodeName::parse(NODE).expect("a name"),
            claimed_at,
        };
        (claimed, fence)
    }

    /// Claims a task and starts its run in a task of its own.
    pub(crate) async fn start(&self, key: &Key, session: &str) -> Started {
        let (task, fence) = self.claim(key, session).await;
        self.beat.send_replace(Some(BeatBegan::now(&*self.clock)));
        let new = NewObject::<Agent>::new(Key::namespaced("default", "coder"), self.agent.clone());
        let agent = if let Ok(agent) = self.stores.agents.create(new).await {
            agent
        } else {
            let key = Key::namespaced("default", "coder");
            self.stores.agents.get(&key).await.expect("read").expect("there")
        };
        let authority = Arc::new(Authority::new(
            self.stores.tasks.clone(),
            self.clock.clone(),
            self.beat.subscribe(),
            key.clone(),
            fence.clone(),
        ));
        let (stop, stopped) = watch::channel(Stop::Continue);
        let (progress, moved) = watch::channel(Progress::default());
        let executor = self.executor();
        let job = Job { task, agent: Some(agent), fence };
        let end =
            tokio::spawn(async move { executor.run(job, authority, progress, stopped).await });
        Started { end, stop, moved }
    }

    /// Runs a task to its end.
    pub(crate) async fn run(&self, key: &Key) -> RunEnd {
        self.start(key, "s1").await.ended().await
    }

    /// Creates a task and runs it to its end, which must be one of its own.
    pub(crate) async fn finish(&self, spec: AgenticTaskSpec) -> Finish {
        let task = self.task("fix", spec).await;
        finished(self.run(&task.key()).await)
    }

    /// Creates a task and runs it to its end, whatever that is.
    pub(crate) async fn end(&self, spec: AgenticTaskSpec) -> RunEnd {
        let task = self.task("fix", spec).await;
        self.run(&task.key()).await
    }

    /// All files of the data and the cache directory whose bytes contain `needle`.
    pub(crate) fn files_with(&self, needle: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.settings.data_dir.clone(), self.settings.cache_dir.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let kind = entry.file_type().expect("a kind");
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let bytes = std::fs::read(entry.path()).unwrap_or_default();
                    if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                        found.push(entry.path());
                    }
                }
            }
        }
        found
    }

    /// The trees of runs that are still there.
    pub(crate) fn trees(&self) -> Vec<PathBuf> {
        let folder = self.settings.data_dir.join("workspaces/default");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// Every tool that a coder may ask for.
pub(crate) fn all_tools() -> Vec<String> {
    let names =
        ["read_file", "grep", "str_replace", "write_file", "bash", "git_status", "git_diff"];
    let names = names.into_iter().chain(["submit_result"]);
    names.map(str::to_owned).collect()
}

/// An end of its own.
pub(crate) fn finished(end: RunEnd) -> Finish {
    match end {
        RunEnd::Finished(finish) => *finish,
        other @ (RunEnd::Released { .. } | RunEnd::Lost) => panic!("not finished: {other:?}"),
    }
}

/// What broke, in which words, of a claim that was given back because the machinery failed.
pub(crate) fn given_back(end: &RunEnd) -> (Infrastructure, &str) {
    match end {
        RunEnd::Released { why: ReleaseWhy::Infrastructure { outcome, message }, .. } => {
            (outcome.infrastructure, message)
        }
        other @ (RunEnd::Finished(_) | RunEnd::Released { .. } | RunEnd::Lost) => {
            panic!("not given back by a fault: {other:?}")
        }
    }
}

/// A run under way.
pub(crate) struct Started {
    end: JoinHandle<RunEnd>,
    pub(crate) stop: watch::Sender<Stop>,
    pub(crate) moved: watch::Receiver<Progress>,
}

impl Started {
    /// Waits for its end.
    pub(crate) async fn ended(self) -> RunEnd {
        within("the end of a run", self.end).await.expect("no panic")
    }

    /// Tells it to stop and waits for its end.
    pub(crate) async fn told(self, stop: Stop) -> RunEnd {
        self.stop.send_replace(stop);
        self.ended().await
    }

    /// Whether it came to an end already.
    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_finished()
    }

    /// Drops its future wherever it is, as a crash of the process would.
    pub(crate) async fn crash(self) {
        self.end.abort();
        let ended = within("the end of a dropped run", self.end).await;
        assert!(ended.expect_err("dropped in its middle").is_cancelled());
    }
}
