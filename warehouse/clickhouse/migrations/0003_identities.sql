-- Whose an id is: see the first migration for what `_rows` and the views are.

CREATE TABLE IF NOT EXISTS @database.identities_rows @on_cluster
(
    log_source LowCardinality(String),
    `index` Int32,
    alias_id String CODEC(ZSTD),
    person_id String CODEC(ZSTD),
    linked_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_date Date32 CODEC(Delta, ZSTD),
    topic LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD)
)
ENGINE = @replacing
PARTITION BY toYYYYMM(linked_at)
ORDER BY (alias_id, linked_at, log_source, offset, `index`)
SETTINGS @settings;

CREATE VIEW IF NOT EXISTS @database.identities @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'identities' GROUP BY log_source
)) AS stands
SELECT
    alias_id, person_id, linked_at, event_date, topic, partition, offset
FROM @database.identities_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;
