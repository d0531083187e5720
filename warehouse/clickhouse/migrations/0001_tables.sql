-- The tables. `NAME_rows` holds rows as they were inserted, some perhaps more than once or of a commit that never came to its
-- end; `blocks` says up to where commits did. The views, by the public names, show what counts.
--
-- A row is known by the record it came from: `log_source` is generation/topic/partition, then `offset`, then `index`. All three
-- are in every sorting key, and all before them follow from the row, so equal rows meet in one place and replace each other.
-- Times bound a part, not dates: queries ask for times, and both follow from the row.

CREATE TABLE IF NOT EXISTS @database.events_rows @on_cluster
(
    log_source LowCardinality(String),
    `index` Int32,
    message_id String CODEC(ZSTD),
    source LowCardinality(String),
    event LowCardinality(String),
    actor_id String CODEC(ZSTD),
    user_id Nullable(String) CODEC(ZSTD),
    anonymous_id Nullable(String) CODEC(ZSTD),
    post_id Nullable(String) CODEC(ZSTD),
    target_id Nullable(String) CODEC(ZSTD),
    tag Nullable(String) CODEC(ZSTD),
    slate Nullable(String) CODEC(ZSTD),
    event_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    ingest_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_date Date32 CODEC(Delta, ZSTD),
    properties String CODEC(ZSTD),
    context String CODEC(ZSTD),
    topic LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD)
)
ENGINE = @replacing
PARTITION BY toYYYYMM(event_time)
ORDER BY (event, event_time, log_source, offset, `index`)
SETTINGS @settings;

CREATE TABLE IF NOT EXISTS @database.engagement_windows_rows @on_cluster
(
    log_source LowCardinality(String),
    `window` LowCardinality(String),
    window_start DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    window_end DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_date Date32 CODEC(Delta, ZSTD),
    post_id String CODEC(ZSTD),
    views Int64 CODEC(ZSTD),
    clicks Int64 CODEC(ZSTD),
    likes Int64 CODEC(ZSTD),
    unlikes Int64 CODEC(ZSTD),
    comments Int64 CODEC(ZSTD),
    shares Int64 CODEC(ZSTD),
    saves Int64 CODEC(ZSTD),
    hides Int64 CODEC(ZSTD),
    reports Int64 CODEC(ZSTD),
    closed_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    topic LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32
)
ENGINE = @replacing
PARTITION BY toYYYYMM(window_start)
ORDER BY (`window`, window_start, post_id, log_source, offset, `index`)
SETTINGS @settings;

CREATE TABLE IF NOT EXISTS @database.served_slates_rows @on_cluster
(
    log_source LowCardinality(String),
    slate String CODEC(ZSTD),
    viewer_id String CODEC(ZSTD),
    served_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_date Date32 CODEC(Delta, ZSTD),
    as_of Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD),
    model LowCardinality(String),
    model_version LowCardinality(String),
    sample_rate Float64 CODEC(ZSTD),
    position Nullable(Int32) CODEC(ZSTD),
    post_id String CODEC(ZSTD),
    author_id String CODEC(ZSTD),
    reason LowCardinality(String),
    score Nullable(Float64) CODEC(ZSTD),
    recency Nullable(Float64) CODEC(ZSTD),
    affinity Nullable(Float64) CODEC(ZSTD),
    engagement Nullable(Float64) CODEC(ZSTD),
    diversity Nullable(Float64) CODEC(ZSTD),
    filter LowCardinality(Nullable(String)),
    topic LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD),
    `index` Int32
)
ENGINE = @replacing
PARTITION BY toYYYYMM(served_at)
ORDER BY (served_at, slate, log_source, offset, `index`)
SETTINGS @settings;

CREATE TABLE IF NOT EXISTS @database.dead_letters_rows @on_cluster
(
    log_source LowCardinality(String),
    `index` Int32,
    id String CODEC(ZSTD),
    reason LowCardinality(String),
    detail String CODEC(ZSTD),
    source LowCardinality(String),
    refused_by LowCardinality(String),
    log_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    event_date Date32 CODEC(Delta, ZSTD),
    payload_bytes Int64 CODEC(ZSTD),
    truncated Bool,
    topic LowCardinality(String),
    partition Int32,
    offset Int64 CODEC(Delta, ZSTD)
)
ENGINE = @replacing
PARTITION BY toYYYYMM(log_time)
ORDER BY (log_time, log_source, offset, `index`)
SETTINGS @settings;

-- One row for each block, written after its rows. The greatest end of a source is the one that counts, whoever wrote it and in
-- whatever order: below it every row is there. Rows with lesser ends go when parts are merged.
CREATE TABLE IF NOT EXISTS @database.blocks @on_cluster
(
    `table` LowCardinality(String),
    generation UInt32,
    topic LowCardinality(String),
    partition UInt32,
    `start` UInt64,
    `end` UInt64,
    recorded_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = @replacing(`end`)
ORDER BY (`table`, generation, topic, partition)
SETTINGS @settings;

-- For readers from outside. A query sees each row of a recorded block once; of a commit that ends while the query begins it
-- may see a part. Millrace's own queries read `blocks` first and so see whole commits.
CREATE VIEW IF NOT EXISTS @database.events @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'events' GROUP BY log_source
)) AS stands
SELECT
    message_id, source, event, actor_id, user_id, anonymous_id, post_id, target_id, tag, slate, event_time, ingest_time,
    event_date, properties, context, topic, partition, offset
FROM @database.events_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS @database.engagement_windows @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'engagement_windows' GROUP BY log_source
)) AS stands
SELECT
    `window`, window_start, window_end, event_date, post_id, views, clicks, likes, unlikes, comments, shares, saves, hides,
    reports, closed_at, topic, partition, offset, `index`
FROM @database.engagement_windows_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS @database.served_slates @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'served_slates' GROUP BY log_source
)) AS stands
SELECT
    slate, viewer_id, served_at, event_date, as_of, model, model_version, sample_rate, position, post_id, author_id, reason,
    score, recency, affinity, engagement, diversity, filter, topic, partition, offset, `index`
FROM @database.served_slates_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE VIEW IF NOT EXISTS @database.dead_letters @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'dead_letters' GROUP BY log_source
)) AS stands
SELECT
    id, reason, detail, source, refused_by, log_time, event_date, payload_bytes, truncated, topic, partition, offset
FROM @database.dead_letters_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;
