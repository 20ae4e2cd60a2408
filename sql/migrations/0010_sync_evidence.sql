-- What speaks for gaps beside what is stored already, and what says that a group should be read again.

-- When a webhook was last being served: kept by every process that serves it and knows the database.
CREATE TABLE ingress_beat (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    at        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ingress_beat DEFAULT VALUES;

-- Of progress.gap: how many lost records were made gaps of already.
CREATE TABLE sync_lost (
    consumer   text NOT NULL,
    topic      text NOT NULL,
    partition  integer NOT NULL,
    records    bigint NOT NULL,
    PRIMARY KEY (consumer, topic, partition)
);

-- Who came and went by webhook: what was fetched carries ids of our own.
CREATE INDEX group_members_told ON group_members (at) WHERE event_id NOT LIKE 'sync\_%';
