-- name: begin
-- $2 begins at these offsets; answers how many other processes began at the same one before and left nothing stored.
INSERT INTO whatsapp_gateway.suspects AS s (consumer, topic, partition, "offset", holder)
SELECT $1, x.topic, x.partition, x.first_offset, $2
FROM unnest($3::text[], $4::int[], $5::bigint[]) AS x (topic, partition, first_offset)
ORDER BY x.topic, x.partition
ON CONFLICT (consumer, topic, partition) DO UPDATE
SET deaths = CASE WHEN s."offset" <> excluded."offset" THEN 0
                  WHEN s.holder = excluded.holder THEN s.deaths
                  ELSE s.deaths + 1 END,
    "offset" = excluded."offset", holder = excluded.holder, began_at = now()
RETURNING s.topic, s.partition, s.deaths;

-- name: end
DELETE FROM whatsapp_gateway.suspects s
USING unnest($3::text[], $4::int[]) AS x (topic, partition)
WHERE s.consumer = $1 AND s.holder = $2 AND s.topic = x.topic AND s.partition = x.partition;
