use clickhouse::error::Error as Said;
use millrace_warehouse::ErrorKind::{Busy, Corrupt, Invalid, Retry, TooLarge};

use super::*;
use crate::ClickHouseOptions;

fn work() -> Work {
    Work::new(&Server::new("clickhouse://u:hush@h", &ClickHouseOptions::default()).unwrap(), "do this")
}

const BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(2), memory_bytes_max: 3 << 20, rows_max: 4 };

#[test]
fn what_the_server_says_is_what_a_caller_should_do() {
    let check = |text: &str, of_ours: ErrorKind, of_a_query: ErrorKind| {
        let said = || Said::BadResponse(text.to_owned());
        assert_eq!(failed(said(), &work()).kind(), of_ours, "{text}");
        assert_eq!(of_query(said(), &work(), BOUNDS).kind(), of_a_query, "{text}");
    };
    check("Code: 159. DB::Exception: Timeout exceeded. (TIMEOUT_EXCEEDED)", Retry, TooLarge);
    check("Code: 241. DB::Exception: Query memory limit exceeded: would use 5 GiB.", Retry, TooLarge);
    check("Code: 241. DB::Exception: (total) memory limit exceeded.", Retry, Busy);
    check("Code: 396. DB::Exception: Limit for result exceeded.", Retry, TooLarge);
    check("Code: 202. DB::Exception: Too many simultaneous queries.", Retry, Busy);
    check("Code: 62. DB::Exception: Syntax error.", Retry, Invalid);
    check("Code: 164. DB::Exception: Cannot execute query in readonly mode.", Retry, Invalid);
    check("Code: 81. DB::Exception: Database x does not exist.", Corrupt, Corrupt);
    check("Code: 40. DB::Exception: Checksum doesn't match.", Corrupt, Corrupt);
    check("Code: 252. DB::Exception: Too many parts.", Retry, Retry);
    check("Code: 516. DB::Exception: u: Authentication failed.", Retry, Retry);
    check("Code: 999. DB::Exception: Keeper is gone.", Retry, Retry);
    check("502 Bad Gateway", Retry, Retry);
    check("Code: what?", Retry, Retry);
}

#[test]
fn a_message_says_what_was_attempted_where_and_only_the_beginning_of_long_words() {
    let text = format!("Code: 999. DB::Exception: No.\nAnd a stack {}", "x".repeat(1_000));
    let error = failed(Said::BadResponse(text), &work());
    assert_eq!(error.to_string(), "do this: ClickHouse at h:8123 says `No.`");
    let error = failed(Said::BadResponse(format!("Code: 999. DB::Exception: {}", "ü".repeat(1_000))), &work());
    assert_eq!(error.to_string().matches('ü').count(), WORDS_CHARS_MAX);
    let error = failed(Said::TimedOut, &work());
    assert_eq!(error.to_string(), "do this: ClickHouse at h:8123 cannot be reached");
}
