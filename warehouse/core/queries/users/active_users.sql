-- Counts the different persons of each day, week (from Monday) or month, in UTC, and what they did. All ids that identify and
-- alias calls link are one person, whenever they did; who did anything at all is active. A period without events has no
-- row.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $every: text, default day, one of day week month. How wide a period is.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
WITH winners AS (
    -- There is a row for each time that an id turned out to be linked earlier; the earliest counts.
    SELECT alias_id, person_id, linked_at
    FROM (
        SELECT
            alias_id,
            person_id,
            linked_at,
            row_number() OVER (PARTITION BY alias_id ORDER BY linked_at, "offset" DESC) AS place
        FROM identities
    ) AS ranked
    WHERE place = 1
),
hops AS (
    SELECT
        w1.alias_id AS id,
        w1.linked_at AS linked_at,
        w1.person_id AS hop1,
        w2.person_id AS hop2,
        w3.person_id AS hop3,
        w4.person_id AS hop4
    FROM winners AS w1
    LEFT JOIN winners AS w2 ON w2.alias_id = w1.person_id
    LEFT JOIN winners AS w3 ON w3.alias_id = w2.person_id
    LEFT JOIN winners AS w4 ON w4.alias_id = w3.person_id
),
persons AS (
    -- Where ids belong to each other in a circle, the least of them stands for all.
    SELECT
        id,
        CASE
            WHEN hop2 = id THEN least(id, hop1)
            WHEN hop3 = hop1 THEN least(hop1, hop2)
            WHEN hop4 = hop2 THEN least(hop2, hop3)
            WHEN hop3 = id THEN least(id, hop1, hop2)
            WHEN hop4 = hop1 THEN least(hop1, hop2, hop3)
            WHEN hop4 = id THEN least(id, hop1, hop2, hop3)
            ELSE coalesce(hop4, hop3, hop2, hop1)
        END AS person_id,
        linked_at
    FROM hops
),
by_actor AS (
    -- By actor first: persons are looked up once for each of them, and not for each event.
    SELECT
        CASE $every
            WHEN 'day' THEN date_trunc('day', event_time)
            WHEN 'week' THEN date_trunc('week', event_time)
            WHEN 'month' THEN date_trunc('month', event_time)
        END AS start,
        actor_id,
        count(*) AS taken
    FROM events
    WHERE ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($robots = 'include' OR NOT robot)
    GROUP BY start, actor_id
)
SELECT
    start,
    count(DISTINCT coalesce(persons.person_id, by_actor.actor_id)) AS users,
    sum(taken) AS events
FROM by_actor
LEFT JOIN persons ON persons.id = by_actor.actor_id
GROUP BY start
ORDER BY start
