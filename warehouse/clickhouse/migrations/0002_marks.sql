-- Who is no person, and what departs from its tracking plan: two columns of `events`, at the end. Rows from before have the
-- mark of nobody.

ALTER TABLE @database.events_rows @on_cluster
    ADD COLUMN IF NOT EXISTS robot Bool AFTER offset,
    ADD COLUMN IF NOT EXISTS violation LowCardinality(Nullable(String)) AFTER robot;

CREATE OR REPLACE VIEW @database.events @on_cluster AS
WITH (SELECT (groupArray(log_source), groupArray(upto)) FROM (
    SELECT concat(toString(generation), '/', topic, '/', toString(partition)) AS log_source, toInt64(max(`end`)) AS upto
    FROM @database.blocks WHERE `table` = 'events' GROUP BY log_source
)) AS stands
SELECT
    message_id, source, event, actor_id, user_id, anonymous_id, post_id, target_id, tag, slate, event_time, ingest_time,
    event_date, properties, context, topic, partition, offset, robot,
    violation
FROM @database.events_rows FINAL
WHERE offset < transform(log_source, stands.1, stands.2, toInt64(0))
SETTINGS do_not_merge_across_partitions_select_final = 1;
