-- What happened with tags in each hour (UTC): posts created with the tag, their different authors, and how often the tag was
-- followed. A post counts once for a tag, however often it names it, and by the tags it was created with. An hour without
-- any has no row.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $tag: text, optional. Only this tag.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
WITH used AS (
    SELECT date_trunc('hour', event_time) AS hour, unnest(json_texts(properties, 'tags')) AS tag, actor_id AS author_id
    FROM events
    WHERE event = 'post_created'
      AND ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($robots = 'include' OR NOT robot)
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
