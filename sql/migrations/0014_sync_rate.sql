-- Fetching begins at a rate beside which live messages do not wait, as measured; `wapipe sync rate` changes it, NULL is no limit.
ALTER TABLE sync_control ALTER COLUMN rate_per_s SET DEFAULT 500;
UPDATE sync_control SET rate_per_s = 500 WHERE rate_per_s IS NULL;
