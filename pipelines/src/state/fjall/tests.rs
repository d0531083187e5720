use millrace_embedded::Options;
use tempfile::TempDir;

use super::*;
use crate::state::conformance::Harness;

struct InDirectory(TempDir);

impl InDirectory {
    fn store(&self) -> Arc<dyn StateStore> {
        Arc::new(FjallStateStore::new(Embedded::open(self.0.path(), Options::default()).unwrap()))
    }
}

#[async_trait]
impl Harness for InDirectory {
    async fn store(&self) -> Arc<dyn StateStore> {
        InDirectory::store(self)
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        assert_eq!(Arc::strong_count(&store), 1, "only one process has the database open");
        drop(store);
        InDirectory::store(self)
    }
}

crate::state_conformance!(on_fjall, Some(InDirectory(tempfile::tempdir().unwrap())));
