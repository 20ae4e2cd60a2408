-- name: stage
CREATE TEMP TABLE IF NOT EXISTS stage_contacts (LIKE whatsapp_gateway.contacts) ON COMMIT DROP;
DELETE FROM stage_contacts;

-- name: merge
-- The law of schemas.normalize.contact.merge_contacts; a row is rewritten only when something really changed.
INSERT INTO whatsapp_gateway.contacts AS c
    (session_id, jid, push_name, push_name_at, is_group, is_me, first_seen_at, last_seen_at)
SELECT session_id, jid, push_name, push_name_at, is_group, is_me, first_seen_at, last_seen_at FROM stage_contacts
ON CONFLICT (session_id, jid) DO UPDATE
SET push_name = CASE WHEN (coalesce(excluded.push_name_at, '-infinity'), coalesce(excluded.push_name, '') COLLATE "C")
                        > (coalesce(c.push_name_at, '-infinity'), coalesce(c.push_name, '') COLLATE "C")
                     THEN excluded.push_name ELSE c.push_name END,
    push_name_at = greatest(c.push_name_at, excluded.push_name_at),
    is_me = c.is_me OR excluded.is_me,
    first_seen_at = least(c.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(c.last_seen_at, excluded.last_seen_at)
WHERE (coalesce(excluded.push_name_at, '-infinity'), coalesce(excluded.push_name, '') COLLATE "C")
      > (coalesce(c.push_name_at, '-infinity'), coalesce(c.push_name, '') COLLATE "C")
   OR (excluded.is_me AND NOT c.is_me)
   OR excluded.first_seen_at < c.first_seen_at
   OR excluded.last_seen_at > c.last_seen_at
RETURNING session_id, jid, xmax = 0 AS is_new;
