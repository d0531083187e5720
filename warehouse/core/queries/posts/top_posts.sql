-- The posts that drew most of one action, with how many different actors took it. Counts actions as they happened: a like
-- that is repeated counts again, one that is taken back counts too. Current totals are at /v1/posts/{post_id}/engagement.
--
-- $from: timestamp, optional. Only what happened at this time or later.
-- $to: timestamp, optional. Only what happened before this time.
-- $by: text, default likes, one of views clicks likes comments shares saves hides reports. The action to count.
-- $robots: text, default include, one of include exclude. Whether what robots did counts too.
-- $limit: integer, default 20, from 1 to 1000. How many posts at most.
WITH by_actor AS (
    -- By actor first: to count the different actors of each post at once, an engine keeps a set for each post.
    SELECT post_id, actor_id, count(*) AS events
    FROM events
    WHERE post_id IS NOT NULL
      AND event = CASE $by
          WHEN 'views' THEN 'post_viewed'
          WHEN 'clicks' THEN 'post_clicked'
          WHEN 'likes' THEN 'post_liked'
          WHEN 'comments' THEN 'post_commented'
          WHEN 'shares' THEN 'post_shared'
          WHEN 'saves' THEN 'post_saved'
          WHEN 'hides' THEN 'post_hidden'
          WHEN 'reports' THEN 'post_reported'
      END
      AND ($from IS NULL OR event_time >= $from)
      AND ($to IS NULL OR event_time < $to)
      AND ($robots = 'include' OR NOT robot)
    GROUP BY post_id, actor_id
)
SELECT post_id, sum(events) AS events, count(*) AS actors
FROM by_actor
GROUP BY post_id
ORDER BY events DESC, post_id
LIMIT $limit
