-- How events depart from their tracking plans, most frequent first: those that a plan keeps and marks. What a plan refuses is
-- among the dead letters.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $event: text, optional. Only events of this name.
SELECT event, violation, count(*) AS events, min(event_time) AS first_at, max(event_time) AS last_at
FROM events
WHERE violation IS NOT NULL
  AND ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
  AND ($event IS NULL OR event = $event)
GROUP BY event, violation
ORDER BY events DESC, event, violation
