use super::*;
use crate::state::conformance::Harness;

struct InMemory;

#[async_trait]
impl Harness for InMemory {
    async fn store(&self) -> Arc<dyn StateStore> {
        Arc::new(ToyStateStore::new())
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        store
    }
}

crate::state_conformance!(on_the_toy, Some(InMemory));
