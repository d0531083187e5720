-- Counts the different actors of each day, week (from Monday) or month, in UTC, and what they did. An actor is active who
-- did anything at all. A period without events has no row.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $every: text, default day, one of day week month. How wide a period is.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
SELECT
    CASE $every
        WHEN 'day' THEN date_trunc('day', event_time)
        WHEN 'week' THEN date_trunc('week', event_time)
        WHEN 'month' THEN date_trunc('month', event_time)
    END AS start,
    count(DISTINCT actor_id) AS users,
    count(*) AS events
FROM events
WHERE ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
  AND ($robots = 'include' OR NOT robot)
GROUP BY start
ORDER BY start
