//! Wiring: from settings to the running thing. Everything that runs is owned by an [`Engine`], and
//! everything that the programs share (store, clock, models, credentials) is made here.

mod credential;
mod engine;
mod housekeeping;
mod machine;
mod models;
mod recipe;

use std::sync::Arc;

use foreman_core::ports::Stores;
use foreman_sqlite::SqliteStore;

use crate::exit::{Exit, Failure};
use crate::os_clock::{SystemClock, SystemEntropy};
use crate::settings::Paths;

pub use credential::{Credential, author};
pub use engine::{Engine, EngineEnd, EnginePlan};
pub use machine::{Machine, node_name};
pub use models::{Models, describe_model, found, no_model};
pub use recipe::{Ready, Recipe, SandboxNeed};

/// The store and the clock of a data directory.
#[derive(Clone)]
pub struct Home {
    /// The objects.
    pub stores: Stores,
    /// The clock.
    pub clock: Arc<SystemClock>,
    /// Where everything is.
    pub paths: Paths,
}

impl Home {
    /// Opens the store of these directories, and makes it if absent.
    ///
    /// # Errors
    /// The directories or the store cannot be used.
    pub fn open(paths: &Paths) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::new());
        let store = SqliteStore::open(paths.store_file(), clock.clone(), Arc::new(SystemEntropy))
            .map_err(|error| {
            Failure::new(Exit::Error, "the store cannot be opened")
                .next("foreman doctor")
                .because(error)
        })?;
        Ok(Self { stores: Stores::of(&store), clock, paths: paths.clone() })
    }
}
