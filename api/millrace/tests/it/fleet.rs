//! One of every engine, for tests that put all stores on one.

use millrace_engines::clickhouse::ClickHouse;
use millrace_engines::kafka::Kafka;
use millrace_engines::minio::{self, Minio};
use millrace_engines::postgres::Postgres;
use millrace_engines::redis::{self, Redis};
use millrace_engines::skip;

/// Engines of their own; they end when dropped.
pub(crate) struct Fleet {
    pub(crate) kafka: Kafka,
    pub(crate) redis: Redis,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) minio: Minio,
    pub(crate) postgres: Postgres,
}

impl Fleet {
    /// `None`, said aloud, when one of them cannot be had.
    pub(crate) fn start() -> Option<Self> {
        let kafka = Kafka::start(1, "")?;
        let redis = Redis::start();
        if redis.is_none() {
            skip("Redis", redis::CURE);
        }
        let minio = Minio::start();
        if minio.is_none() {
            skip("S3", minio::CURE);
        }
        let (clickhouse, postgres) = (ClickHouse::start()?, Postgres::start()?);
        Some(Self { kafka, redis: redis?, clickhouse, minio: minio?, postgres })
    }

    /// What puts every store of a server there.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let few = "replication=1&min_insync=1&append_timeout_ms=3000";
        let log = format!("kafka://{}/it?{few}", self.kafka.brokers());
        let warehouse = self.clickhouse.url().replacen("http://", "clickhouse://", 1);
        let (online, state, catalog) = (self.redis.url(), self.minio.url("state"), self.postgres.url());
        ["--log", &log, "--online", &online, "--warehouse", &warehouse, "--state", &state, "--catalog", catalog]
            .map(str::to_owned)
            .into()
    }
}
