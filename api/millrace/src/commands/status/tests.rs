use super::*;

#[test]
fn the_table_sums_lag_and_takes_the_slowest_clock() {
    let status: Status = serde_json::from_str(
        r#"{"log":{"actions":{"0":{"end":5},"1":{"end":7}}},
            "jobs":{"graph":{"0":{"committed":4,"end":5,"lag":1,"clock":"2026-01-01T00:00:02Z"},
                             "1":{"committed":7,"end":7,"lag":0,"clock":"2026-01-01T00:00:01Z"}},
                    "new":{"0":{"committed":0,"end":0,"lag":0,"clock":null}}},
            "warehouse":{"lag":3,"tables":{"events":2,"served_slates":1},"as_of":"2026-01-01T00:00:00Z",
                         "error":"the disk is full"},
            "spool":{"bytes":900,"events":2,"oldest":"2026-01-01T00:00:03Z","error":"it is stuck"},
            "caught_up":false}"#,
    )
    .unwrap();
    assert_eq!(
        table(&status).join("\n"),
        "topic                partitions        records\n\
         actions                       2             12\n\
         \n\
         job                  partitions      committed        lag  complete to\n\
         graph                         2             11          1  2026-01-01T00:00:01Z\n\
         new                           1              0          0  -\n\
         \n\
         warehouse                tables                       lag  complete to\n\
         archive                       2                         3  2026-01-01T00:00:00Z\n\
         the archive waits: the disk is full\n\
         \n\
         the log did not take 2 records: they wait in the spool, 900 bytes, the oldest since 2026-01-01T00:00:03Z\n\
         the spool waits: it is stuck\n\
         not caught up: 6 records to go"
    );
}

#[test]
fn the_table_of_sources_says_what_was_refused_and_why() {
    let status: IngestStatus = serde_json::from_str(
        r#"{"since":"2026-01-01T00:00:00Z",
            "sources":{"web":{"accepted":12,"duplicates":3,"late":1,"robots":2,"violations":4,"unapplied":1,
                              "last_seen":"2026-01-01T00:00:05Z",
                              "door":{"requests":9,"events":15,"violations":4,"rejected":{"missing_id":2},
                                      "refused":{"body_too_large":1},"last_seen":"2026-01-01T00:00:05Z"}}},
            "unattributed":{"invalid_write_key":7}}"#,
    )
    .unwrap();
    assert_eq!(
        sources_table(&status).join("\n"),
        "source                       accepted duplicates     late   robots violations  last seen\n\
         web                                12          3        1        2          4  2026-01-01T00:00:05Z\n\
         \u{20} events that no job could apply: 1; millrace dlq list\n\
         \u{20} events rejected as missing_id: 2; millrace dlq list --source web --reason missing_id\n\
         \u{20} requests refused as body_too_large: 1\n\
         requests of nobody known refused as invalid_write_key: 7\n\
         rejected and refused: at this door, since 2026-01-01T00:00:00Z"
    );
}
