-- Reactions of the last hour to messages that are not there speak for a gap.
CREATE INDEX reactions_at ON reactions (at);
