-- Profile pictures of people and groups, with WAPIPE_MEDIA_PROFILE_PICTURES: when WAHA is asked next, and the newest picture.
-- An object is referred to from here as from media_downloads: neither is swept under the other's hand.
CREATE TABLE profile_pictures (
    contact_id  integer PRIMARY KEY,
    next_at     timestamptz NOT NULL,       -- WAHA is asked again; whoever asks puts it off first, so that nobody else does
    asked_at    timestamptz,
    changed_at  timestamptz,
    sha256      bytea REFERENCES media_objects (sha256),  -- null: has none, or shows it to nobody
    last_error  text
) WITH (fillfactor = 70);
CREATE INDEX profile_pictures_object ON profile_pictures (sha256) WHERE sha256 IS NOT NULL;
