use super::*;

fn server(cluster: Option<&str>) -> Server {
    let options = ClickHouseOptions { cluster: cluster.map(str::to_owned), ..ClickHouseOptions::default() };
    Server::new("clickhouse://h/db", &options).unwrap()
}

#[test]
fn migrations_are_numbered_from_one_without_gaps() {
    let numbers: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.number).collect();
    assert_eq!(numbers, (1..=NEWEST).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_fill_in_and_every_statement_can_be_repeated() {
    for server in [server(None), server(Some("main"))] {
        for migration in MIGRATIONS {
            for statement in migration.statements(&server) {
                assert!(!statement.contains('@'), "{statement}");
                let is_repeatable = statement.contains(" IF NOT EXISTS ") || statement.contains("CREATE OR REPLACE ");
                assert!(is_repeatable, "{statement}");
            }
        }
    }
}

#[test]
fn one_server_has_plain_tables_and_a_cluster_replicated_ones_on_each_server() {
    let of = |cluster| MIGRATIONS.iter().flat_map(|m| m.statements(&server(cluster))).collect::<Vec<_>>();
    let (alone, together) = (of(None), of(Some("main")));
    assert_eq!(alone.len(), together.len());
    for (alone, together) in alone.iter().zip(&together) {
        assert!(!alone.contains("ON CLUSTER") && !alone.contains("Replicated"), "{alone}");
        assert!(together.contains(" ON CLUSTER `main`"), "{together}");
        assert_eq!(
            alone.matches("ENGINE = ReplacingMergeTree").count(),
            together.matches("ENGINE = Replicated").count()
        );
    }
}

/// The text of a release. A file that was released may not change: a database that has it would be refused.
#[test]
fn released_migrations_are_as_they_were_released() {
    let checksums: Vec<String> = MIGRATIONS.iter().map(Migration::checksum).collect();
    assert_eq!(checksums, ["2e139b8c2424b0d7", "30333ccec061ccd8", "334717fd145847ef"]);
}

#[test]
fn a_database_of_a_newer_version_or_of_other_migrations_is_refused() {
    let of = |entries: &[(u32, &str)]| {
        let applied = entries.iter().map(|(number, checksum)| (*number, (*checksum).to_owned())).collect();
        refuse_strangers("db", &applied)
    };
    let known = MIGRATIONS[0].checksum();
    assert!(of(&[]).is_ok() && of(&[(1, &known)]).is_ok());
    let newer = of(&[(1, &known), (NEWEST + 1, "x")]).unwrap_err();
    assert_eq!(newer.kind(), ErrorKind::Corrupt);
    assert!(newer.to_string().contains("run the version that made it, or a newer one"), "{newer}");
    let changed = of(&[(1, "x")]).unwrap_err();
    assert!(changed.to_string().starts_with("migration 1 (tables) of the database db was another one"), "{changed}");
}

#[test]
fn rows_are_kept_for_a_day_at_least() {
    for days in [0, KEEP_DAYS_MAX + 1] {
        let error = check_days(&[(Table::Events, days)].into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{days}");
    }
    assert!(check_days(&[(Table::Events, 1)].into()).is_ok());
}
