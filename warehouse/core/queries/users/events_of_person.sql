-- What a person did under any of their ids, before and after these were linked, newest first.
--
-- $id: text, required. Any id of the person.
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $limit: integer, default 100, from 1 to 10000. How many events at most.
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
target AS (
    SELECT coalesce(max(person_id), $id) AS person_id FROM persons WHERE id = $id
),
ids AS (
    SELECT persons.id AS id, persons.person_id AS person_id, persons.linked_at AS linked_at
    FROM persons
    INNER JOIN target ON target.person_id = persons.person_id
    UNION ALL
    -- Who belongs to nobody else is in no row.
    SELECT person_id AS id, person_id, NULL AS linked_at FROM target WHERE person_id NOT IN (SELECT id FROM persons)
)
SELECT
    events.event_time AS event_time,
    events.event AS event,
    events.actor_id AS actor_id,
    events.post_id AS post_id,
    events.target_id AS target_id,
    events.message_id AS message_id
FROM events
INNER JOIN ids ON ids.id = events.actor_id
WHERE ($from IS NULL OR events.event_time >= $from) AND ($to IS NULL OR events.event_time < $to)
ORDER BY events.event_time DESC, events.partition, events."offset" DESC
LIMIT $limit
