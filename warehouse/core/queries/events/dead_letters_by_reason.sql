-- Counts dead letters by reason and by who refused, most frequent first. A refusal that was repeated after a crash counts
-- once.
--
-- $from: timestamp, optional. Only what was refused at this time or later.
-- $to: timestamp, optional. Only what was refused before this time.
SELECT reason, refused_by, count(DISTINCT id) AS letters, min(log_time) AS first_at, max(log_time) AS last_at
FROM dead_letters
WHERE ($from IS NULL OR log_time >= $from) AND ($to IS NULL OR log_time < $to)
GROUP BY reason, refused_by
ORDER BY letters DESC, reason, refused_by
