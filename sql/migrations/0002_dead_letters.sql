-- What was decided about dead letters. The letters themselves stand in their topics; one without a decision, or one that
-- died again after it, is open.

-- One run of `wapipe dlq replay` or `wapipe dlq drop`: who, when, why. Never deleted.
CREATE TABLE dead_letter_decisions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer    text NOT NULL,
    action      text NOT NULL CHECK (action IN ('redriven', 'dropped')),
    selection   text NOT NULL,            -- what was asked for
    because     text NOT NULL DEFAULT '',
    decided_by  text NOT NULL,            -- user@host of the command
    decided_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (action <> 'dropped' OR because <> '')
);

-- A letter that was decided about, by the place and time of its first record (offsets begin again when a topic is made
-- anew). The decision holds for deaths up to dead_at_ms.
CREATE TABLE dead_letters_decided (
    consumer       text NOT NULL,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    "offset"       bigint NOT NULL,
    recorded_at_ms bigint NOT NULL,
    dead_at_ms     bigint NOT NULL,
    decision_id    bigint NOT NULL REFERENCES dead_letter_decisions (id),
    superseded_by  bigint REFERENCES dead_letter_decisions (id)
);
-- Of two commands that want the same letter one gets it.
CREATE UNIQUE INDEX dead_letters_decided_current
    ON dead_letters_decided (consumer, topic, partition, "offset", recorded_at_ms, dead_at_ms) WHERE superseded_by IS NULL;
CREATE INDEX dead_letters_decided_decision ON dead_letters_decided (decision_id);
