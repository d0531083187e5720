//! Kafka, Redis, ClickHouse, Postgres and S3 for development, on free ports of the loopback interface, until this program ends:
//! what `make services` and `make demo-cluster` run. Prints what to set for `millrace up`, in the words of a shell. Nothing that
//! they hold outlives them.

#![expect(clippy::print_stdout, reason = "what it prints is its purpose")]

use millrace_engines::clickhouse::ClickHouse;
use millrace_engines::kafka::Kafka;
use millrace_engines::minio::{self, Minio};
use millrace_engines::postgres::Postgres;
use millrace_engines::redis::{self, Redis};
use millrace_engines::skip;

fn main() -> std::process::ExitCode {
    let Some((kafka, redis, clickhouse, postgres, minio)) = start() else { return 3.into() };
    let warehouse = clickhouse.url().replacen("http://", "clickhouse://", 1);
    println!("export MILLRACE_LOG_URL='kafka://{}/millrace?replication=1&min_insync=1'", kafka.brokers());
    println!("export MILLRACE_ONLINE_URL='{}'", redis.url());
    println!("export MILLRACE_WAREHOUSE_URL='{warehouse}/millrace'");
    println!("export MILLRACE_STATE_URL='{}'", minio.url("millrace"));
    println!("export MILLRACE_CATALOG_URL='{}'", postgres.url());
    println!("# they run until this program is stopped, with Ctrl-C");
    loop {
        std::thread::park();
    }
}

fn start() -> Option<(Kafka, Redis, ClickHouse, Postgres, Minio)> {
    let kafka = Kafka::start(1, "")?;
    let redis = Redis::start();
    if redis.is_none() {
        skip("Redis", redis::CURE);
    }
    let minio = Minio::start();
    if minio.is_none() {
        skip("S3", minio::CURE);
    }
    Some((kafka, redis?, ClickHouse::start()?, Postgres::start()?, minio?))
}
