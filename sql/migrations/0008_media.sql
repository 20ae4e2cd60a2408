-- Files of messages: one job a message, one object for equal bytes however many messages refer to it.

-- Bytes in the bucket under sha256/ab/cd/…. Who refers to them is asked of media_downloads, never counted.
-- claimed_at: when somebody last said that he is about to refer to it; swept: how often a sweep has marked it as gone.
-- A store whose `swept` has changed since its claim starts again (docs/adr/0008-media.md).
CREATE TABLE media_objects (
    sha256        bytea PRIMARY KEY CHECK (length(sha256) = 32),
    bytes         bigint NOT NULL,
    mimetype      text,                     -- sniffed; null: nothing is known of these bytes
    extension     text,
    stored_at     timestamptz,              -- null: nobody says yet, or no longer, that the bucket has it
    claimed_at    timestamptz NOT NULL DEFAULT now(),
    swept         integer NOT NULL DEFAULT 0,
    verified_at   timestamptz,
    thumbnail     text CHECK (thumbnail IN ('wanted', 'made', 'refused')),
    thumbnail_at  timestamptz,              -- not before this is it tried again
    thumbnail_tries smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX media_objects_thumbnails ON media_objects (thumbnail_at) WHERE thumbnail = 'wanted';

CREATE TABLE media_downloads (
    chat_id          integer NOT NULL,
    key              uuid NOT NULL,         -- of the message
    session_id       integer NOT NULL,
    source           text NOT NULL,         -- which WAHA
    lane             smallint NOT NULL,     -- 0 live, 1 backfill
    download_status  text NOT NULL DEFAULT 'pending'
        CHECK (download_status IN ('pending', 'running', 'stored', 'skipped', 'failed', 'expired')),
    reason           text,                  -- of skipped, failed and expired
    ts               timestamptz NOT NULL,  -- WhatsApp's time of the message
    message_id       text NOT NULL,         -- as WAHA serializes it
    type             text NOT NULL,         -- image, voice, document, …
    url              text,                  -- where WAHA says it lies
    s3_bucket        text,                  -- or in WAHA's own bucket
    s3_key           text,
    mimetype         text,                  -- claimed, as everything here up to claimed_sha256
    filename         text,
    claimed_bytes    bigint,
    claimed_sha256   bytea,
    deadline         timestamptz,           -- when WAHA deletes its file; null: not known, or never
    next_at          timestamptz NOT NULL DEFAULT now(),
    attempts         integer NOT NULL DEFAULT 0,
    asked            integer NOT NULL DEFAULT 0,   -- how often WAHA was asked for it in vain
    abandoned        integer NOT NULL DEFAULT 0,   -- leases that ran out
    lease            uuid,
    leased_until     timestamptz,
    last_error       text,
    sha256           bytea REFERENCES media_objects (sha256),
    bytes            bigint,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz,
    PRIMARY KEY (chat_id, key),
    CHECK ((download_status = 'stored') = (sha256 IS NOT NULL)),
    CHECK ((download_status = 'running') = (lease IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX media_downloads_deadline ON media_downloads (source, lane, deadline) WHERE download_status = 'pending';
CREATE INDEX media_downloads_next ON media_downloads (source, lane, next_at) WHERE download_status = 'pending';
CREATE INDEX media_downloads_leases ON media_downloads (leased_until) WHERE download_status = 'running';
CREATE INDEX media_downloads_list ON media_downloads (download_status, created_at DESC, chat_id, key);
CREATE INDEX media_downloads_object ON media_downloads (sha256) WHERE sha256 IS NOT NULL;
