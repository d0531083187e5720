-- How often each action happens in an hour: on average over the hours (UTC) in which it happened at all, and in its busiest
-- hour, the first of several equal ones.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
WITH by_hour AS (
    SELECT event, date_trunc('hour', event_time) AS hour, count(*) AS taken
    FROM events
    WHERE ($from IS NULL OR event_time >= $from) AND ($to IS NULL OR event_time < $to)
    GROUP BY event, hour
),
ranked AS (
    SELECT event, hour, taken, row_number() OVER (PARTITION BY event ORDER BY taken DESC, hour) AS place
    FROM by_hour
)
SELECT
    event,
    sum(taken) AS events,
    count(*) AS hours,
    CAST(sum(taken) AS DOUBLE) / CAST(count(*) AS DOUBLE) AS events_per_hour,
    max(hour) FILTER (WHERE place = 1) AS busiest_hour,
    max(taken) AS busiest_hour_events
FROM ranked
GROUP BY event
ORDER BY events DESC, event
