//! Both catalogs against their laws.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod catalogs;

use millrace_catalog::catalog_conformance;

catalog_conformance!(on_sqlite, Some(catalogs::sqlite()));
catalog_conformance!(on_postgres, catalogs::postgres());
