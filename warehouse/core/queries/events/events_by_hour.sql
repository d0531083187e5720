-- Counts events by hour (UTC) and name. An hour without events has no row.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $event: text, optional. Only events of this name.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
SELECT date_trunc('hour', event_time) AS hour, event, count(*) AS events
FROM events
WHERE ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
  AND ($event IS NULL OR event = $event)
  AND ($robots = 'include' OR NOT robot)
GROUP BY hour, event
ORDER BY hour, event
