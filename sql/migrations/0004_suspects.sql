-- Where a process has begun to decode a partition after it was assigned, and has not stored anything of it yet. A process
-- that dies there leaves its row behind; the next one counts a death. Empty while all is well.
CREATE TABLE suspects (
    consumer     text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,           -- of the first record that it began with
    holder       uuid NOT NULL,             -- the process that began last
    deaths       integer NOT NULL DEFAULT 0, -- of holders before it, at this very offset
    began_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);
