//! The layer table of `ARCHITECTURE.md`, asserted: who may import whom, and which crate owns which dependency.
//!
//! A new arrow between crates is the rarest kind of change, so it should fail here first and be a commit of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// One row of the table: a crate, its layer, and what it may import of ours.
struct Row {
    name: &'static str,
    layer: u8,
    imports: &'static [&'static str],
}

const fn row(layer: u8, name: &'static str, imports: &'static [&'static str]) -> Row {
    Row { name, layer, imports }
}

const EVENTS: &str = "millrace-events";
const EMBEDDED: &str = "millrace-embedded";
const OBJECTS: &str = "millrace-objects";
const LOG: &str = "millrace-log";
const LOG_KAFKA: &str = "millrace-log-kafka";
const SPOOL: &str = "millrace-spool";
const FEATURE_STORE: &str = "millrace-feature-store";
const SIMULATOR: &str = "millrace-simulator";
const WAREHOUSE: &str = "millrace-warehouse";
const DELTA: &str = "millrace-delta";
const REDIS: &str = "millrace-redis";
const CLICKHOUSE: &str = "millrace-clickhouse";
const CATALOG: &str = "millrace-catalog";
const COLLECTOR: &str = "millrace-collector";
const PIPELINES: &str = "millrace-pipelines";
const SLATEDB: &str = "millrace-slatedb";
const RANKING: &str = "millrace-ranking";
const HTTP: &str = "millrace-http";
const BINARY: &str = "millrace";
/// Engines for tests: nobody ships it.
const ENGINES: &str = "millrace-engines";
/// Empty but in tests.
const FAILPOINTS: &str = "millrace-failpoints";
/// The laws of the decoders, for a fuzzer: nobody ships it.
const FUZZ: &str = "millrace-fuzz";

const LAYERS: &[Row] = &[
    row(0, EVENTS, &[]),
    row(0, EMBEDDED, &[]),
    row(0, OBJECTS, &[]),
    row(0, ENGINES, &[]),
    row(0, FAILPOINTS, &[]),
    row(1, LOG, &[EVENTS, EMBEDDED]),
    row(1, FEATURE_STORE, &[EVENTS, EMBEDDED]),
    row(1, SIMULATOR, &[EVENTS]),
    row(1, WAREHOUSE, &[EVENTS]),
    row(1, CATALOG, &[]),
    row(2, LOG_KAFKA, &[LOG, EVENTS]),
    row(2, SPOOL, &[LOG, EVENTS, FAILPOINTS]),
    row(2, DELTA, &[WAREHOUSE, EVENTS, OBJECTS, FAILPOINTS]),
    row(2, REDIS, &[FEATURE_STORE]),
    row(2, CLICKHOUSE, &[WAREHOUSE, EVENTS, FAILPOINTS]),
    row(3, COLLECTOR, &[LOG, EVENTS, FAILPOINTS]),
    row(3, PIPELINES, &[LOG, FEATURE_STORE, WAREHOUSE, EVENTS, EMBEDDED, FAILPOINTS]),
    row(3, RANKING, &[FEATURE_STORE, EVENTS]),
    row(4, SLATEDB, &[PIPELINES, LOG, EVENTS, OBJECTS]),
    row(4, HTTP, &[RANKING, COLLECTOR, FEATURE_STORE, WAREHOUSE, LOG, EVENTS]),
    row(5, FUZZ, &[COLLECTOR, RANKING, LOG, EVENTS]),
    row(
        5,
        BINARY,
        &[
            HTTP,
            RANKING,
            PIPELINES,
            SLATEDB,
            COLLECTOR,
            SIMULATOR,
            DELTA,
            LOG_KAFKA,
            SPOOL,
            REDIS,
            CLICKHOUSE,
            CATALOG,
            WAREHOUSE,
            FEATURE_STORE,
            LOG,
            EMBEDDED,
            OBJECTS,
            EVENTS,
        ],
    ),
];

/// Dependencies that only these crates may name outside their tests. An engine without an adapter has no owner yet.
const FENCES: &[(&str, &[&str])] = &[
    ("fjall", &[EMBEDDED]),
    ("fail", &[FAILPOINTS]),
    ("axum", &[HTTP, BINARY]),
    ("reqwest", &[BINARY]),
    ("clap", &[BINARY]),
    ("anyhow", &[BINARY]),
    ("rdkafka", &[LOG_KAFKA]),
    ("slatedb", &[SLATEDB]),
    ("redis", &[REDIS]),
    ("datafusion", &[DELTA]),
    ("deltalake-core", &[DELTA]),
    ("deltalake", &[]),
    ("parquet", &[DELTA]),
    ("object_store", &[DELTA, OBJECTS]),
    ("rustix", &[BINARY, DELTA, FAILPOINTS, SPOOL]),
    ("quick-xml", &[SIMULATOR]),
    ("zstd", &[BINARY, COLLECTOR]),
    ("clickhouse", &[CLICKHOUSE]),
    ("sqlx", &[CATALOG]),
    ("jsonschema", &[COLLECTOR]),
    ("ort", &[]),
];

/// What one crate imports, apart from what only its tests and benches do.
struct Imports {
    shipped: Vec<String>,
    dev: Vec<String>,
}

/// Tests run in the folder of their crate. A path in the program would be that of the clone that built it, where clones
/// share a target directory.
fn workspace_root() -> PathBuf {
    PathBuf::from("../..")
}

fn workspace() -> BTreeMap<String, Imports> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace_root())
        .output()
        .expect("cargo runs: it runs this test");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    packages.iter().map(|package| (text(&package["name"]), imports(package))).collect()
}

fn imports(package: &Value) -> Imports {
    let mut imports = Imports { shipped: Vec::new(), dev: Vec::new() };
    for dependency in package["dependencies"].as_array().expect("a package lists dependencies") {
        let list = if dependency["kind"] == "dev" { &mut imports.dev } else { &mut imports.shipped };
        list.push(text(&dependency["name"]));
    }
    imports
}

fn text(value: &Value) -> String {
    value.as_str().expect("names are strings").to_owned()
}

fn find(name: &str) -> Option<&'static Row> {
    LAYERS.iter().find(|row| row.name == name)
}

#[test]
fn the_table_is_the_workspace() {
    let crates = workspace();
    for name in crates.keys() {
        assert!(
            find(name).is_some(),
            "{name} is not in the layer table: decide its layer and what it may import, then add a row to LAYERS in \
             api/millrace/tests/layers.rs and to the table in ARCHITECTURE.md, in a commit of its own"
        );
    }
    for row in LAYERS {
        assert!(
            crates.contains_key(row.name),
            "{} is in the layer table but not in the workspace: remove its row",
            row.name
        );
    }
}

#[test]
fn the_table_only_points_down() {
    for row in LAYERS {
        for import in row.imports {
            let below = find(import).map(|r| r.layer);
            assert!(
                below.is_some_and(|layer| layer < row.layer),
                "the table lets {} (layer {}) import {import} (layer {below:?}): imports go to a lower layer only",
                row.name,
                row.layer
            );
        }
    }
}

#[test]
fn crates_import_only_what_the_table_allows() {
    for (name, imports) in workspace() {
        let Some(row) = find(&name) else { continue };
        for import in imports.shipped.iter().filter(|i| find(i).is_some()) {
            assert!(
                row.imports.contains(&import.as_str()),
                "{name} imports {import}, which the layer table does not allow: let them meet at a contract below both, \
                 or change the table here and in ARCHITECTURE.md in a commit of its own that says why"
            );
        }
        for (import, layer) in imports.dev.iter().filter_map(|i| find(i).map(|r| (i, r.layer))) {
            assert!(
                layer <= row.layer,
                "the tests of {name} (layer {}) import {import} (layer {layer}): a test that needs a higher layer belongs \
                 in api/millrace/tests",
                row.layer
            );
        }
    }
}

#[test]
fn dependencies_stay_behind_their_fences() {
    for (name, imports) in workspace() {
        for (fenced, owners) in FENCES {
            assert!(
                owners.contains(&name.as_str()) || !imports.shipped.iter().any(|i| i == fenced),
                "{name} depends on {fenced}, which only {owners:?} may name: go through its owner, or add the adapter \
                 crate to FENCES in api/millrace/tests/layers.rs"
            );
        }
    }
}

/// Every `path` between backticks in the architecture page is there: a map that names what is gone misleads.
#[test]
fn the_architecture_names_files_that_exist() {
    let root = workspace_root();
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is text");
    let mut missing = Vec::new();
    for quoted in page.split('`').skip(1).step_by(2).filter(|quoted| is_path(quoted)) {
        if !root.join(quoted).exists() {
            missing.push(quoted);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there, correct it: {missing:#?}");
}

/// A path from the root of the tree: it starts with a room and has no placeholder in it.
fn is_path(quoted: &str) -> bool {
    const ROOMS: &[&str] =
        &["ingest/", "pipelines/", "feature-store/", "ml-serving/", "api/", "tests/", "scripts/", "catalog/"];
    ROOMS.iter().any(|room| quoted.starts_with(room)) && !quoted.contains(['<', '*', '{', ' '])
}
