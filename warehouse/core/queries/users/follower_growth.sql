-- How often a user was followed and unfollowed on each day (UTC), and by how much that changed. Counts actions as they
-- happened: following twice counts twice. A day without any has no row.
--
-- $user_id: text, required. The user who is followed.
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
SELECT
    date_trunc('day', event_time) AS day,
    count(*) FILTER (WHERE event = 'user_followed') AS followed,
    count(*) FILTER (WHERE event = 'user_unfollowed') AS unfollowed,
    count(*) FILTER (WHERE event = 'user_followed') - count(*) FILTER (WHERE event = 'user_unfollowed') AS change
FROM events
WHERE target_id = $user_id
  AND event IN ('user_followed', 'user_unfollowed')
  AND ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
GROUP BY day
ORDER BY day
