//! A real Kubernetes API server for the suites: kube-apiserver and etcd as their own projects build
//! them. Nothing of Foreman is in here, and no program of Foreman uses it.
//!
//! [`Assets::find`] looks where they are, [`Assets::build`] makes them (`cargo xtask apiserver`), and
//! a [`Server`] is one running pair in a folder of its own, on ports of its own, which ends with the
//! process that started it, however that ends. A suite asks for the one [`shared`] server of its
//! process.
#![warn(missing_docs)]

mod assets;
mod server;

use std::io::Write as _;

use tokio::sync::OnceCell;

pub use assets::Assets;
pub use server::{ADMIN, Server, User};

/// Set by CI: a suite that cannot run is a failure, not a silence.
const NO_SKIP: &str = "FOREMAN_TEST_NO_SKIP";

/// The server that all tests of this process share, started by the first that asks. `None`, said
/// loudly, where there is no kube-apiserver on this machine; then `what` is not tested.
///
/// # Panics
/// When a server is there and does not start, or when there is none and `FOREMAN_TEST_NO_SKIP` is
/// set.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub async fn shared(what: &str) -> Option<&'static Server> {
    static SERVER: OnceCell<Result<Server, String>> = OnceCell::const_new();
    let assets = match Assets::find() {
        Ok(assets) => assets,
        Err(reason) => {
            let reason = format!("SKIPPED: {what}: {reason:#}");
            assert!(std::env::var_os(NO_SKIP).is_none(), "{reason} ({NO_SKIP} is set)");
            // Past the capture of the harness, which would hide it in a run that passes.
            writeln!(std::io::stderr(), "\n{reason}\n").unwrap_or_else(|error| panic!("{error}"));
            return None;
        }
    };
    let start = async || Server::start(&assets).await.map_err(|error| format!("{error:#}"));
    match SERVER.get_or_init(start).await {
        Ok(server) => Some(server),
        Err(error) => panic!("no API server: {error}"),
    }
}
