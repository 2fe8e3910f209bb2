//! What several suites share: repositories, servers of models and of git, a bench for runs.

pub(crate) mod bench;
pub(crate) mod git_server;
pub(crate) mod llama;
pub(crate) mod model_server;
pub(crate) mod repository;

use std::future::Future;
use std::time::Duration;

/// Nothing that a test waits for takes longer, on a slow machine under load.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Waits for `what`, and says so when it does not come about.
pub(crate) async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come about within {} s", DEADLINE.as_secs()))
}
