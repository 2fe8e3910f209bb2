//! A store of one's own against the suite that every store must pass.

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::ports::Stores;
use foreman_core::testkit::conformance::Subject;
use foreman_core::testkit::sim::{SimClock, SimEntropy};
use foreman_examples::own_store::{OwnHandle, OwnStore};

struct Own(Arc<OwnHandle>);

#[async_trait]
impl Subject for Own {
    fn stores(&self) -> Stores {
        Stores::of(&self.0)
    }
}

foreman_core::store_conformance!(async || Own(OwnStore::empty(
    SimClock::new(),
    SimEntropy::new(1)
)));
