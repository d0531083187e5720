-- What became of the candidates of served feeds, by the source that brought them: served, removed by a filter, or neither,
-- because better ones filled the page. Where only a sample of slates was recorded, `estimated` says how many there were.
--
-- $from: timestamp, optional. Only feeds served at this time or later.
-- $to: timestamp, optional. Only feeds served before this time.
-- $model: text, optional. Only feeds that this model scored.
SELECT
    reason,
    CASE WHEN filter IS NOT NULL THEN 'filtered' WHEN "position" IS NOT NULL THEN 'served' ELSE 'not_served' END AS outcome,
    filter,
    count(*) AS candidates,
    count(DISTINCT slate) AS slates,
    CAST(round(sum(1.0 / sample_rate)) AS BIGINT) AS estimated
FROM served_slates
WHERE ($from IS NULL OR served_at >= $from)
  AND ($to IS NULL OR served_at < $to)
  AND ($model IS NULL OR model = $model)
GROUP BY reason, outcome, filter
ORDER BY reason, outcome, filter NULLS FIRST
