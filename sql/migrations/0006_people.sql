-- Who people are and what chats are: names, identities, groups, labels, presence, calls; and what sessions were.
-- Every table has a merge that does not depend on the order of events (docs/merge-law.md). People and chats are jids.id.

-- Everybody and every chat that a session has met. Kept to the day, so that a busy chat does not rewrite its rows.
CREATE TABLE contacts_seen (
    contact_id     integer PRIMARY KEY,
    is_me          boolean NOT NULL,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL
) WITH (fillfactor = 80);

-- Every name that somebody ever went by, from when to when, to the hour.
CREATE TABLE contact_names (
    contact_id  integer NOT NULL,
    source      text NOT NULL,             -- saved, push, verified
    name        text NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (contact_id, source, name)
) WITH (fillfactor = 80);

-- A hidden id and a phone number are one person, or (fallen) no longer: what was said of the pair last, to the hour.
CREATE TABLE identities (
    lid_id    integer NOT NULL,
    phone_id  integer NOT NULL,
    at        timestamptz NOT NULL,
    fallen    boolean NOT NULL,
    source    text NOT NULL,               -- message, group, request, call, account, contacts, lids, operator
    PRIMARY KEY (lid_id, phone_id)
) WITH (fillfactor = 80);
CREATE INDEX identities_phone ON identities (phone_id);

INSERT INTO jids (session_id, jid) SELECT session_id, jid FROM contacts ON CONFLICT DO NOTHING;
INSERT INTO contacts_seen
SELECT j.id, c.is_me, date_trunc('day', c.first_seen_at, 'UTC'), c.last_seen_at
FROM contacts c JOIN jids j USING (session_id, jid);
INSERT INTO contact_names
SELECT j.id, 'push', left(c.push_name, 256), c.push_name_at, c.push_name_at
FROM contacts c JOIN jids j USING (session_id, jid) WHERE c.push_name <> '';
DROP TABLE contacts;

-- Settings of groups over time, as JSON: subject, description, invite, owner, members_can_add, members_can_send, approval;
-- and member_list, which says that all members were listed then.
CREATE TABLE group_settings (
    group_id  integer NOT NULL,
    setting   text NOT NULL,
    at        timestamptz NOT NULL,
    event_id  text NOT NULL,
    value     text NOT NULL,
    PRIMARY KEY (group_id, setting, at)
);

-- A person's role from a time on: left, participant, admin, superadmin.
CREATE TABLE group_members (
    group_id   integer NOT NULL,
    person_id  integer NOT NULL,
    at         timestamptz NOT NULL,
    event_id   text NOT NULL,
    role       text NOT NULL,
    by_jid     text,                       -- who did it, where the engine says so
    PRIMARY KEY (group_id, person_id, at)
);

-- Who asked to join a group, and what became of it.
CREATE TABLE group_join_requests (
    group_id   integer NOT NULL,
    person_id  integer NOT NULL,
    at         timestamptz NOT NULL,
    action     text NOT NULL,              -- created, rejected, revoked
    event_id   text NOT NULL,
    method     text,                       -- invite_link, non_admin_add, linked_group_join
    PRIMARY KEY (group_id, person_id, at, action)
);

-- A label's newest description, and whether it is still there. A deletion has no name.
CREATE TABLE labels (
    session_id          integer NOT NULL,
    label_id            text NOT NULL,
    described_at        timestamptz,
    described_event_id  text,
    name                text,
    color               integer,           -- -1: not said
    color_hex           text,
    at                  timestamptz NOT NULL,
    event_id            text NOT NULL,
    deleted             boolean NOT NULL,
    PRIMARY KEY (session_id, label_id)
);

-- Whether a chat carries a label, by what was said last.
CREATE TABLE chat_labels (
    chat_id   integer NOT NULL,
    label_id  text NOT NULL,
    at        timestamptz NOT NULL,
    event_id  text NOT NULL,
    carried   boolean NOT NULL,
    PRIMARY KEY (chat_id, label_id)
);

-- Whether a chat is archived, by what was said last.
CREATE TABLE chat_archive (
    chat_id   integer PRIMARY KEY,
    at        timestamptz NOT NULL,
    event_id  text NOT NULL,
    archived  boolean NOT NULL
);

-- What a person does in a chat, as last told, and his newest "last seen".
CREATE TABLE presence (
    chat_id       integer NOT NULL,
    person_id     integer NOT NULL,
    at            timestamptz NOT NULL,
    event_id      text NOT NULL,
    state         text NOT NULL,           -- offline, online, typing, recording, paused
    last_seen_at  timestamptz,
    PRIMARY KEY (chat_id, person_id)
) WITH (fillfactor = 50);

-- What people did before, only with WAPIPE_PRESENCE_HISTORY. It grows with every event and nothing deletes from it.
CREATE TABLE presence_history (
    chat_id    integer NOT NULL,
    person_id  integer NOT NULL,
    at         timestamptz NOT NULL,
    state      text NOT NULL,
    PRIMARY KEY (chat_id, person_id, at, state)
);

-- One row a call: when each state was told first. The caller belongs to the key: nobody changes another's call.
CREATE TABLE calls (
    session_id   integer NOT NULL,
    call_id      text NOT NULL,
    caller_id    integer NOT NULL,         -- 0: the event names nobody
    received_at  timestamptz,
    accepted_at  timestamptz,
    rejected_at  timestamptz,
    detail       text,                     -- the engine's own word for the rejection: reject, terminate, timeout
    group_jid    text,
    is_video     boolean NOT NULL,
    is_group     boolean NOT NULL,
    PRIMARY KEY (session_id, call_id, caller_id)
);
CREATE INDEX calls_first ON calls (session_id, least(received_at, accepted_at, rejected_at));

-- Every status that a session reached, and every engine and version that it ran on ('': not said).
CREATE TABLE session_status (
    session_id  integer NOT NULL,
    status      text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (session_id, status, at)
);
CREATE TABLE session_versions (
    session_id  integer NOT NULL,
    engine      text NOT NULL,
    version     text NOT NULL,
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (session_id, engine, version)
) WITH (fillfactor = 80);

-- What a person reads. Subqueries: what is not asked for is not looked up, and count(*) looks nothing up.
-- Of several names the saved one is shown before the one that somebody gave himself before the verified one.
CREATE VIEW contacts AS
SELECT j.session_id, j.jid,
       (SELECT n.name FROM contact_names n WHERE n.contact_id = j.id AND n.source = 'push'
        ORDER BY n.last_at DESC, n.name COLLATE "C" DESC LIMIT 1)                                       AS push_name,
       (SELECT max(n.last_at) FROM contact_names n WHERE n.contact_id = j.id AND n.source = 'push')     AS push_name_at,
       CASE WHEN j.jid LIKE '%@g.us' THEN
           (SELECT g.value::json #>> '{}' FROM group_settings g WHERE g.group_id = j.id AND g.setting = 'subject'
            ORDER BY g.at DESC LIMIT 1)
       ELSE
           (SELECT n.name FROM contact_names n WHERE n.contact_id = j.id
            ORDER BY array_position(ARRAY['saved', 'push', 'verified'], n.source), n.last_at DESC, n.name COLLATE "C" DESC LIMIT 1)
       END                                                                                              AS name,
       j.jid LIKE '%@g.us' AS is_group, c.is_me, c.first_seen_at, c.last_seen_at, c.contact_id
FROM contacts_seen c JOIN jids j ON j.id = c.contact_id;

CREATE FUNCTION group_setting(wanted_group integer, wanted text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT value::json #>> '{}' FROM whatsapp_gateway.group_settings
    WHERE group_id = wanted_group AND setting = wanted ORDER BY at DESC LIMIT 1
$$;
CREATE VIEW groups AS
SELECT j.session_id, j.jid AS "group",
       group_setting(j.id, 'subject')                    AS subject,
       group_setting(j.id, 'description')                AS description,
       group_setting(j.id, 'owner')                      AS owner,
       group_setting(j.id, 'invite')                     AS invite,
       group_setting(j.id, 'members_can_add')::boolean   AS members_can_add,
       group_setting(j.id, 'members_can_send')::boolean  AS members_can_send,
       group_setting(j.id, 'approval')::boolean          AS approval,
       j.id                                              AS group_id
FROM jids j WHERE j.jid LIKE '%@g.us';
