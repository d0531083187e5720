-- How many actors took how many actions. Bars double in width: 1, 2 to 3, 4 to 7, and so on. A bar without actors has no
-- row.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $event: text, optional. Only events of this name.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
WITH by_actor AS (
    SELECT actor_id, count(*) AS actions
    FROM events
    WHERE ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($event IS NULL OR event = $event)
      AND ($robots = 'include' OR NOT robot)
    GROUP BY actor_id
),
bars AS (
    SELECT CAST(power(2.0, floor(log2(CAST(actions AS DOUBLE)))) AS BIGINT) AS least, actions
    FROM by_actor
)
SELECT least AS actions_min, 2 * least - 1 AS actions_max, count(*) AS users, sum(actions) AS actions
FROM bars
GROUP BY least
ORDER BY least
