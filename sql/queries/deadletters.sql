-- name: decide
INSERT INTO whatsapp_gateway.dead_letter_decisions (consumer, action, selection, because, decided_by)
VALUES ($1, $2, $3, $4, $5) RETURNING id;

-- name: supersede
-- The decisions that were seen about these letters hold no longer; one that was made meanwhile does.
UPDATE whatsapp_gateway.dead_letters_decided d SET superseded_by = $1
FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])
     AS x (topic, partition, "offset", recorded_at_ms, seen_id)
WHERE d.consumer = $2 AND d.topic = x.topic AND d.partition = x.partition AND d."offset" = x."offset"
  AND d.recorded_at_ms = x.recorded_at_ms AND d.decision_id = x.seen_id AND d.superseded_by IS NULL;

-- name: claim
-- Takes letters for a decision; answers those that nobody else has decided about meanwhile.
INSERT INTO whatsapp_gateway.dead_letters_decided
    (consumer, topic, partition, "offset", recorded_at_ms, dead_at_ms, decision_id)
SELECT $2, x.topic, x.partition, x."offset", x.recorded_at_ms, x.dead_at_ms, $1
FROM unnest($3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])
     AS x (topic, partition, "offset", recorded_at_ms, dead_at_ms)
ORDER BY x.topic, x.partition, x."offset", x.recorded_at_ms, x.dead_at_ms
ON CONFLICT (consumer, topic, partition, "offset", recorded_at_ms, dead_at_ms) WHERE superseded_by IS NULL DO NOTHING
RETURNING topic, partition, "offset", recorded_at_ms;

-- name: decided
-- The newest decision about each letter of a consumer.
SELECT DISTINCT ON (d.topic, d.partition, d."offset", d.recorded_at_ms)
       d.topic, d.partition, d."offset", d.recorded_at_ms, d.dead_at_ms, n.action, n.id
FROM whatsapp_gateway.dead_letters_decided d JOIN whatsapp_gateway.dead_letter_decisions n ON n.id = d.decision_id
WHERE d.consumer = $1 AND d.superseded_by IS NULL
ORDER BY d.topic, d.partition, d."offset", d.recorded_at_ms, d.dead_at_ms DESC;

-- name: decisions_about
-- Everything that was ever decided about one letter, oldest first.
SELECT n.id, n.action, n.selection, n.because, n.decided_by, n.decided_at
FROM whatsapp_gateway.dead_letters_decided d JOIN whatsapp_gateway.dead_letter_decisions n ON n.id = d.decision_id
WHERE d.consumer = $1 AND d.topic = $2 AND d.partition = $3 AND d."offset" = $4 AND d.recorded_at_ms = $5
ORDER BY n.id;

-- name: decisions
-- Newest first, with how many letters each concerned; one that was killed before its first letter concerned none.
SELECT n.id, n.consumer, n.action, n.selection, n.because, n.decided_by, n.decided_at, count(*) AS letters
FROM whatsapp_gateway.dead_letter_decisions n JOIN whatsapp_gateway.dead_letters_decided d ON d.decision_id = n.id
WHERE $1::text IS NULL OR n.consumer = $1
GROUP BY n.id ORDER BY n.id DESC LIMIT $2;
