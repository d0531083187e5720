-- Counts events by name, most frequent first. Late events count where they happened.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
SELECT event, count(*) AS events
FROM events
WHERE ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
  AND ($robots = 'include' OR NOT robot)
GROUP BY event
ORDER BY events DESC, event
