-- How far a post reached over time: views, different viewers within each step, and what they did. Counts actions as they
-- happened: a like that is repeated counts again. Steps are in UTC, weeks begin on Monday; a step without any has no row.
--
-- $post_id: text, required. The post.
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $every: text, default hour, one of hour day week. How wide a step is.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
SELECT
    CASE $every
        WHEN 'hour' THEN date_trunc('hour', event_time)
        WHEN 'day' THEN date_trunc('day', event_time)
        WHEN 'week' THEN date_trunc('week', event_time)
    END AS start,
    count(*) FILTER (WHERE event = 'post_viewed') AS views,
    count(DISTINCT actor_id) FILTER (WHERE event = 'post_viewed') AS viewers,
    count(*) FILTER (WHERE event = 'post_clicked') AS clicks,
    count(*) FILTER (WHERE event = 'post_liked') AS likes,
    count(*) FILTER (WHERE event = 'post_unliked') AS unlikes,
    count(*) FILTER (WHERE event = 'post_commented') AS comments,
    count(*) FILTER (WHERE event = 'post_shared') AS shares,
    count(*) FILTER (WHERE event = 'post_saved') AS saves,
    count(*) FILTER (WHERE event = 'post_hidden') AS hides,
    count(*) FILTER (WHERE event = 'post_reported') AS reports
FROM events
WHERE post_id = $post_id
  AND event IN (
      'post_viewed', 'post_clicked', 'post_liked', 'post_unliked', 'post_commented',
      'post_shared', 'post_saved', 'post_hidden', 'post_reported'
  )
  AND ($from IS NULL OR event_time >= $from)
  AND ($to IS NULL OR event_time < $to)
  AND ($robots = 'include' OR NOT robot)
GROUP BY start
ORDER BY start
