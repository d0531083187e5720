-- Counts events by name, most frequent first. Late events count where they happened.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
SELECT event, count(*) AS events
FROM events
WHERE ($from IS NULL OR event_time >= $from) AND ($to IS NULL OR event_time < $to)
GROUP BY event
ORDER BY events DESC, event
