-- Whose picture is asked for next.
CREATE INDEX profile_pictures_due ON profile_pictures (next_at);
