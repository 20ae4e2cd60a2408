-- A request for all chats of an engine that cannot sweep them ends when the requests made of it have ended. Until now it ended
-- when they had been made: coverage and gaps took it for complete.
ALTER TABLE sync_state ADD COLUMN spread boolean NOT NULL DEFAULT false;  -- it became a request for each chat

UPDATE sync_state p SET spread = true
WHERE p.chat = 'all' AND EXISTS (SELECT FROM sync_state c WHERE c.parent_id = p.id);

UPDATE sync_state p SET status = 'waiting', error = 'for the requests of its chats', cursor_s = NULL, finished_at = NULL
WHERE p.spread AND p.status = 'completed'
  AND EXISTS (SELECT FROM sync_state c WHERE c.parent_id = p.id AND c.status <> 'completed')
  AND NOT EXISTS (
      SELECT FROM sync_state o
      WHERE (o.session, o.chat, o.kind, o.since_s, o.until_s) = (p.session, p.chat, p.kind, p.since_s, p.until_s)
        AND o.id <> p.id AND (o.status IN ('pending', 'running', 'waiting') OR o.id > p.id));
