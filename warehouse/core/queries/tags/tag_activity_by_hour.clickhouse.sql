-- ClickHouse looks into JSON and turns a list into rows by functions of its own. Of a list only its texts count, each once, and
-- the first thousand, as with `json_texts`.
WITH listed AS (
    SELECT
        date_trunc('hour', event_time) AS hour,
        actor_id,
        arrayFilter(raw -> JSONType(raw) = 'String', JSONExtractArrayRaw(properties, 'tags')) AS raws
    FROM events
    WHERE event = 'post_created'
      AND ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($robots = 'include' OR NOT robot)
),
used AS (
    SELECT
        hour,
        arrayJoin(arraySlice(arrayDistinct(arrayMap(raw -> JSONExtractString(raw), raws)), 1, 1000)) AS tag,
        actor_id AS author_id
    FROM listed
),
followed AS (
    SELECT date_trunc('hour', event_time) AS hour, tag
    FROM events
    WHERE event = 'tag_followed'
      AND ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($robots = 'include' OR NOT robot)
),
activity AS (
    SELECT hour, tag, author_id, 1 AS posts, 0 AS follows FROM used
    UNION ALL
    SELECT hour, tag, NULL AS author_id, 0 AS posts, 1 AS follows FROM followed
)
SELECT hour, tag, sum(posts) AS posts, count(DISTINCT author_id) AS authors, sum(follows) AS follows
FROM activity
WHERE tag IS NOT NULL AND ($tag IS NULL OR tag = $tag)
GROUP BY hour, tag
ORDER BY hour, tag
