-- The closed windows of posts, newest first. Only events on time count in them: see late_events for the others.
--
-- $window: text, default 1h, one of 5m 1h 24h. How wide the windows are.
-- $post_id: text, optional. Only windows of this post.
-- $from: timestamp, optional. Only windows that begin at this time or later.
-- $to: timestamp, optional. Only windows that begin before this time.
-- $limit: integer, default 100, from 1 to 10000. How many windows at most.
SELECT
    post_id, window_start, window_end, views, clicks, likes, unlikes, comments, shares, saves, hides, reports, closed_at
FROM engagement_windows
WHERE "window" = $window
  AND ($post_id IS NULL OR post_id = $post_id)
  AND ($from IS NULL OR window_start >= $from)
  AND ($to IS NULL OR window_start < $to)
ORDER BY window_start DESC, post_id
LIMIT $limit
