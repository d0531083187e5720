//! One of every engine, for what puts all stores of a server on one.

use crate::clickhouse::ClickHouse;
use crate::kafka::Kafka;
use crate::minio::{self, Minio};
use crate::postgres::Postgres;
use crate::redis::{self, Redis};
use crate::skip;

/// A dead broker is noticed within three seconds instead of nine, a controller that hangs within two instead of thirty.
const QUICK: &str =
    "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\ncontroller.socket.timeout.ms=2000\n";

/// Engines of their own; they end when dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The log.
    pub kafka: Kafka,
    /// The online store.
    pub redis: Redis,
    /// The warehouse.
    pub clickhouse: ClickHouse,
    /// Job state.
    pub minio: Minio,
    /// The catalog.
    pub postgres: Postgres,
}

impl Fleet {
    /// `None`, said aloud, when one of them cannot be had.
    ///
    /// # Panics
    /// When one does not start, or cannot be had where CI is set.
    pub fn start() -> Option<Self> {
        Self::start_with_brokers(1)
    }

    /// The same with so many brokers in the cluster of Kafka.
    ///
    /// # Panics
    /// As of [`Fleet::start`].
    pub fn start_with_brokers(brokers: u32) -> Option<Self> {
        // One alone has nobody to hand over to, and on a loaded machine it may be silent for longer than that.
        let kafka = Kafka::start(brokers, if brokers > 1 { QUICK } else { "" })?;
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

    /// The engines that work while events come in, each with the number of its process.
    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let processes = [
            ("kafka", Some(self.kafka.process(0))),
            ("redis", Some(self.redis.process())),
            ("clickhouse", self.clickhouse.process()),
            ("s3", Some(self.minio.process())),
        ];
        processes.into_iter().filter_map(|(name, process)| Some((name, process?.id()?))).collect()
    }

    /// Each store of a server and its URL here.
    pub fn stores(&self) -> [(&'static str, String); 5] {
        let warehouse = self.clickhouse.url().replacen("http://", "clickhouse://", 1);
        let copies = self.kafka.size().min(3);
        let insync = copies.saturating_sub(1).max(1);
        let brokers = self.kafka.brokers();
        [
            ("log", format!("kafka://{brokers}/millrace?replication={copies}&min_insync={insync}")),
            ("online", self.redis.url()),
            ("warehouse", format!("{warehouse}/millrace")),
            ("state", self.minio.url("millrace")),
            ("catalog", self.postgres.url().to_owned()),
        ]
    }

    /// The same with the warehouse on S3 too.
    pub fn stores_with_delta(&self) -> [(&'static str, String); 5] {
        self.stores().map(|(store, url)| match store {
            "warehouse" => (store, self.minio.url("tables")),
            _ => (store, url),
        })
    }
}
