-- The actors of whom anything was marked as a robot's, by the user agent that it came with or by the rate of what they did:
-- those with most marked events first. What an actor did before the rate showed it is not marked.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $limit: integer, default 100, from 1 to 100000. How many actors at most.
WITH by_actor AS (
    SELECT
        actor_id,
        count(*) FILTER (WHERE robot) AS marked,
        count(*) AS events,
        min(event_time) FILTER (WHERE robot) AS first_at,
        max(event_time) FILTER (WHERE robot) AS last_at
    FROM events
    WHERE ($from IS NULL OR event_time >= $from) AND ($to IS NULL OR event_time < $to)
    GROUP BY actor_id
)
SELECT actor_id, marked, events, first_at, last_at
FROM by_actor
WHERE marked > 0
ORDER BY marked DESC, actor_id
LIMIT $limit
