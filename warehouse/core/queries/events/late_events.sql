-- Counts late events by the hour (UTC) in which they happened and by name: those that arrived more than five minutes after
-- they happened. They count in totals and are in the archive, but in no window.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
SELECT date_trunc('hour', event_time) AS hour, event, count(*) AS events
FROM events
-- The allowed lateness of stage 1.
WHERE ingest_time > event_time + INTERVAL '5' MINUTE
  AND ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
GROUP BY hour, event
ORDER BY hour, event
