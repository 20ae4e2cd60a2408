-- Replays: ranges of topics that a consumer's code reads once more. How far each is stands in progress, under
-- CONSUMER@replay-ID, in the transaction of its rows (of a shadow replay: in its scratch schema).
CREATE TABLE replays (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer      text NOT NULL,
    spec          jsonb NOT NULL,          -- what was ordered
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopping', 'stopped', 'done', 'failed')),
    records       bigint NOT NULL,         -- offsets in all its ranges
    passed        bigint NOT NULL DEFAULT 0, -- of them, at the last sign of life
    error         text,
    result        jsonb,                   -- its books, and what a shadow replay found
    host          text NOT NULL,           -- of the process that has it, or had it last
    pid           integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    heartbeat_at  timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);

-- Offsets [first_offset, end_offset) of each partition, decided once at the start.
CREATE TABLE replay_ranges (
    replay_id     integer NOT NULL REFERENCES replays (id) ON DELETE CASCADE,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    end_offset    bigint NOT NULL,
    PRIMARY KEY (replay_id, topic, partition)
);
