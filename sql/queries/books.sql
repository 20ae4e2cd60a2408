-- name: lock
-- Locks (and makes, at its first record) the progress rows of a batch; answers where each of them stands.
INSERT INTO whatsapp_gateway.progress AS p (consumer, topic, partition, first_offset, next_offset)
SELECT $1, x.topic, x.partition, x.first_offset, x.first_offset
FROM unnest($2::text[], $3::int[], $4::bigint[]) AS x (topic, partition, first_offset)
ORDER BY x.topic, x.partition
ON CONFLICT (consumer, topic, partition) DO UPDATE SET updated_at = now()
RETURNING p.topic, p.partition, p.next_offset;

-- name: begin
-- Rows for the partitions that were never assigned before; they stand at the beginning of their log.
INSERT INTO whatsapp_gateway.progress (consumer, topic, partition, first_offset, next_offset)
SELECT $1, x.topic, x.partition, x.first_offset, x.first_offset
FROM unnest($2::text[], $3::int[], $4::bigint[]) AS x (topic, partition, first_offset)
ORDER BY x.topic, x.partition
ON CONFLICT (consumer, topic, partition) DO NOTHING;

-- name: positions
SELECT topic, partition, next_offset FROM whatsapp_gateway.progress WHERE consumer = $1;

-- name: advance
UPDATE whatsapp_gateway.progress p
SET next_offset = x.next_offset, records = p.records + x.records, written = p.written + x.written,
    merged = p.merged + x.merged, skipped = p.skipped + x.skipped, dead = p.dead + x.dead, gap = p.gap + x.gap
FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
            $10::bigint[]) AS x (topic, partition, next_offset, records, written, merged, skipped, dead, gap)
WHERE p.consumer = $1 AND p.topic = x.topic AND p.partition = x.partition;

-- name: skip
INSERT INTO whatsapp_gateway.progress_skipped AS p (consumer, topic, event, records)
SELECT $1, x.topic, x.event, x.records FROM unnest($2::text[], $3::text[], $4::bigint[]) AS x (topic, event, records)
ORDER BY x.topic, x.event
ON CONFLICT (consumer, topic, event) DO UPDATE SET records = p.records + excluded.records;

-- name: progress
-- Of the consumer $1, or of all.
SELECT consumer, topic, partition, first_offset, next_offset, records, written, merged, skipped, dead, gap
FROM whatsapp_gateway.progress WHERE $1::text IS NULL OR consumer = $1 ORDER BY consumer, topic, partition;

-- name: skipped
SELECT consumer, event, sum(records)::bigint AS records
FROM whatsapp_gateway.progress_skipped WHERE $1::text IS NULL OR consumer = $1
GROUP BY consumer, event ORDER BY consumer, event;
