"""Every metric of wapipe: name, unit, labels, one sentence. Label sets are closed: no chat, no phone number, no id.

docs/metrics.md has the table (`make docs`). The closed sets stand at the end; `known` holds a label to its set where a
value comes from elsewhere. A process' own numbers (memory, CPU, garbage collection) come from prometheus_client.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from schemas.topics import ROUTES

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series a counter, of when it began

_STAGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# ---- ingress
INGRESS_ANSWERS = Counter(
    "wapipe_ingress_answers_total", "Webhook answers by HTTP status and reason.", ["code", "reason"]
)
INGRESS_EVENTS = Counter(
    "wapipe_ingress_events_total", "Events answered 200, by event name and engine.", ["event", "engine"]
)
INGRESS_SECONDS = Histogram("wapipe_ingress_seconds", "Request to answer, in seconds.", buckets=_STAGES)
INGRESS_BYTES = Counter("wapipe_ingress_bytes_total", "Body bytes answered 200.")
INGRESS_IN_FLIGHT = Gauge("wapipe_ingress_in_flight", "Requests waiting for the broker or the spool.")
INGRESS_LATE = Counter(
    "wapipe_ingress_late_total", "Events whose X-Webhook-Timestamp is over 60 s old (WAHA's retries)."
)
PRODUCER_RESTARTS = Counter("wapipe_producer_restarts_total", "Kafka producers replaced because they got no answer.")

# ---- spool of the ingress
SPOOL_BYTES = Gauge("wapipe_spool_bytes", "Bytes of the spool of this process on disk.")
SPOOL_LIMIT_BYTES = Gauge("wapipe_spool_limit_bytes", "WAPIPE_SPOOL_MAX_BYTES: beyond it the webhook answers 503.")
SPOOL_RECORDS = Gauge("wapipe_spool_records", "Events in the spool that the broker has not acknowledged yet.")
SPOOL_OLDEST_SECONDS = Gauge("wapipe_spool_oldest_seconds", "Age of the oldest event in the spool; 0 when it is empty.")
SPOOLED = Counter("wapipe_spooled_total", "Events synced to the spool and answered 200.")
DRAINED = Counter("wapipe_spool_drained_total", "Events of the spool acknowledged by the broker.")
SPOOL_REFUSED = Counter("wapipe_spool_refused_total", "Events that the spool could not take (503).", ["reason"])
# reason: full | disk
SPOOL_RECORDS_REFUSED = Counter(
    "wapipe_spool_undeliverable_total", "Events of the spool that the broker refuses for ever; kept in files set aside."
)
SPOOL_SET_ASIDE = Counter(
    "wapipe_spool_set_aside_total", "Files of the spool kept for people instead of removed.", ["flaw"]
)  # flaw: damaged | refused
SPOOL_COMMIT_SECONDS = Histogram(
    "wapipe_spool_commit_seconds", "Writing and syncing one group of events to the spool.", buckets=_STAGES
)

# ---- consumers
RECORDS = Counter(
    "wapipe_records_total", "Records whose transaction is committed, by outcome.", ["consumer", "outcome"]
)
SKIPPED = Counter("wapipe_skipped_total", "Records a consumer does not store, by event name.", ["consumer", "event"])
DEAD = Counter("wapipe_dead_letters_total", "Dead letters acknowledged by the broker.", ["consumer", "reason"])
STAGE_SECONDS = Histogram(
    "wapipe_stage_seconds", "Time of one stage of a batch, in seconds.", ["consumer", "stage"], buckets=_STAGES
)
BATCH_ROWS = Histogram(
    "wapipe_batch_rows", "Records in a batch.", ["consumer"], buckets=(1, 5, 20, 100, 500, 1000, 2000, 5000, 20000)
)
BATCH_FILL = Histogram(
    "wapipe_batch_fill_ratio",
    "Records in a batch against WAPIPE_BATCH_ROWS; 1 is full.",
    ["consumer"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1),
)
BATCH_SECONDS = Histogram(
    "wapipe_batch_seconds", "Fetch of a batch to its committed transaction, in seconds.", ["consumer"], buckets=_STAGES
)
RECORD_AGE_SECONDS = Gauge(
    "wapipe_record_age_seconds", "Age of the oldest record of the last stored batch when it was stored.", ["consumer"]
)
LAG_RECORDS = Gauge("wapipe_lag_records", "Log end minus stored position.", ["consumer", "topic", "partition"])
LAG_SECONDS = Gauge(
    "wapipe_lag_seconds",
    "Age of the oldest record that is not stored; 0 without one.",
    ["consumer", "topic", "partition"],
)
RETENTION_LEFT_SECONDS = Gauge(
    "wapipe_retention_left_seconds",
    "Time until retention may delete the oldest record that is not stored; all of it without one.",
    ["consumer", "topic", "partition"],
)
PAUSED = Gauge("wapipe_paused", "1 while a batch waits for a dependency that is away.", ["consumer", "reason"])
RETRIES = Counter("wapipe_retries_total", "Attempts repeated because a dependency was away.", ["consumer", "reason"])
FLOODED = Gauge(
    "wapipe_flooded_partitions",
    "Partitions slowed down because too many of their records are dead letters.",
    ["consumer"],
)
LOST = Counter(
    "wapipe_retention_lost_records_total", "Records that the broker deleted before they were read.", ["consumer"]
)
COMMITS = Counter("wapipe_commits_total", "Offset commits to Kafka by result.", ["consumer", "result"])
REBALANCES = Counter("wapipe_rebalances_total", "Times that partitions were taken away or given.", ["consumer"])
SILENT_SESSIONS = Gauge(
    "wapipe_silent_sessions", "Sessions in state WORKING of which nothing came for WAPIPE_SILENT_SESSION_S."
)
BOOKS_DIFFERENCE = Gauge(
    "wapipe_books_difference_records", "Records of the progress rows that are unaccounted for.", ["consumer"]
)

# ---- media
MEDIA_JOBS = Gauge("wapipe_media_jobs", "Files of messages by what became of them.", ["state"])
MEDIA_WAITING = Gauge(
    "wapipe_media_waiting_jobs", "Files not fetched yet, by the time that WAHA keeps them.", ["deadline"]
)
MEDIA_OLDEST_SECONDS = Gauge(
    "wapipe_media_waiting_seconds", "Age of the oldest file not fetched yet, likewise; 0 without one.", ["deadline"]
)
MEDIA_OUTCOMES = Counter(
    "wapipe_media_outcomes_total", "Ends of downloads; `again` will be tried again.", ["state", "reason"]
)
MEDIA_ASKED = Counter("wapipe_media_asked_total", "Files that WAHA downloaded once more because it was asked to.")
MEDIA_BYTES = Counter("wapipe_media_bytes_total", "Bytes of files fetched and stored.")
MEDIA_DEDUPED_BYTES = Counter("wapipe_media_deduplicated_bytes_total", "Those of them that the bucket had already.")
MEDIA_SECONDS = Histogram(
    "wapipe_media_seconds",
    "One download, in seconds.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
MEDIA_LEFT_SECONDS = Histogram(
    "wapipe_media_left_seconds", "Until WAHA deletes the file, when its download begins.",
    buckets=(0, 1, 5, 15, 30, 60, 120, 180, 600, 3600, 86400),
)  # fmt: skip
MEDIA_RUNNING = Gauge("wapipe_media_running", "Downloads under way in this process.")
MEDIA_IN_FLIGHT_BYTES = Gauge("wapipe_media_in_flight_bytes", "Bytes of memory that they may take.")
MEDIA_LEASES_LOST = Counter("wapipe_media_leases_lost_total", "Downloads dropped because another process has the job.")
MEDIA_THUMBNAILS = Counter("wapipe_media_thumbnails_total", "Thumbnails by result.", ["result"])
MEDIA_PICTURES = Counter(
    "wapipe_media_profile_pictures_total", "Profile pictures that WAHA was asked for, by result.", ["result"]
)
# ---- WAHA's REST
WAHA_REQUESTS = Counter(
    "wapipe_waha_requests_total", "Requests to WAHA's REST by HTTP status.", ["source", "call", "outcome"]
)
WAHA_SECONDS = Histogram(
    "wapipe_waha_request_seconds", "Request to WAHA to its answer, in seconds.", ["call"], buckets=_STAGES
)
WAHA_BREAKER_OPEN = Gauge(
    "wapipe_waha_breaker_open", "1 while a WAHA server is left alone because it did not answer.", ["source"]
)

# ---- sync
SYNC_MESSAGES = Counter(
    "wapipe_sync_messages_total",
    "Messages fetched from WAHA; new: the database did not have them.",
    ["reason", "state"],
)
SYNC_REQUESTS = Counter(
    "wapipe_sync_requests_total", "Requests to fetch history that ended or paused.", ["reason", "outcome"]
)
SYNC_OPEN = Gauge("wapipe_sync_open_requests", "Requests to fetch history that are not finished.", ["status"])
SYNC_OLDEST_SECONDS = Gauge("wapipe_sync_oldest_request_seconds", "Age of the oldest of them; 0 without one.")
SYNC_HELD = Gauge("wapipe_sync_held", "1 while fetching is held back.", ["reason"])

SYNC_SCHEDULING = Gauge("wapipe_sync_scheduling", "1 in the one sync process that asks for look-backs by itself.")
SYNC_GAPS = Gauge("wapipe_sync_gaps", "Intervals in which messages may be missing, that are not closed.", ["cause"])
SYNC_DEAF = Gauge("wapipe_sync_deaf_sessions", "Sessions whose newest messages WAHA has, and no webhook told of.")
SYNC_RESTARTS = Counter("wapipe_sync_session_restarts_total", "Such sessions that were restarted.")

# ---- API
API_REQUESTS = Counter("wapipe_api_requests_total", "API answers by route template and status.", ["route", "status"])
API_SECONDS = Histogram("wapipe_api_request_seconds", "API request to answer, in seconds.", ["route"], buckets=_STAGES)

# ---- closed sets of labels
OTHER = "other"
ANSWERS = {  # of the webhook: status and reasons
    "200": ("ok", "parked"),
    "400": ("disconnected",),
    "401": ("unsigned", "wrong_signature", "wrong_token", "unknown_algorithm"),
    "404": ("unknown_source",),
    "405": ("post_only",),
    "413": ("too_large", "too_large_for_broker"),
    "415": ("not_json_type",),
    "503": ("broker_away", "spool_full", "too_many_in_flight", "too_many_bytes_in_flight"),
}
EVENTS = frozenset({*ROUTES, OTHER})
ENGINES = frozenset({"WEBJS", "WPP", "NOWEB", "GOWS", OTHER})
OUTCOMES = frozenset({"written", "merged", "skipped", "dead", "gap"})
DEAD_REASONS = frozenset(
    {
        # schemas/: the payload does not say what it must
        "not_json", "not_an_object", "payload_missing", "session_missing", "session_too_long", "status_missing",
        "message_id_missing", "message_id_too_long", "chat_missing", "jid_too_long", "ack_missing", "ack_unknown",
        "action_unknown", "archived_missing", "participants_missing", "poll_missing", "presence_missing",
        "reaction_missing", "reaction_text_wrong", "requester_missing", "revoke_missing", "vote_missing",
        "voter_missing", "sync_request_wrong",
        # pipeline/: the normaliser stumbled, the database refused
        "decode_failed", "kills_process", "refused_by_database", "not_encodable", OTHER,
    }
)  # fmt: skip
PAUSE_REASONS = frozenset({"kafka", "postgres", "s3", "waha", "scanner", "bug", "flood", "instance_id"})
MEDIA_STATES = ("pending", "running", "stored", "skipped", "failed", "expired")
MEDIA_PICTURE_RESULTS = ("new", "same", "none", "failed", "away")
MEDIA_DEADLINES = ("under_1m", "over_1m", "past", "none")
MEDIA_REASONS = {  # of the ends of a download
    "stored": ("",),
    "again": ("",),
    "skipped": ("type_off", "too_large", "quarantined"),
    "expired": ("not_available",),
    "failed": (
        "abandoned", "unknown_source", "length_mismatch", "hash_mismatch", "empty", "encoded", "http_error",
        "too_many_redirects", "changed", "not_scanned",
        "url_malformed", "scheme_refused", "credentials_in_url", "origin_refused", "redirect_refused", "address_refused",
    ),
}  # fmt: skip

SYNC_REASONS = frozenset({"gap", "manual", "initial", "periodic"})
SYNC_HELD_REASONS = frozenset({"stopped", "live_lag", "backfill_lag", "postgres", "kafka", OTHER})
SYNC_CAUSES = frozenset({
    "not_working", "ingress_down", "lost_records", "silent", "unknown_quote", "unknown_reaction", "missed",
})  # fmt: skip
SYNC_STATUSES = frozenset({"pending", "running", "waiting"})
WAHA_CALLS = frozenset(
    {"chats", "configure", "contacts", "file", "groups", "label_chats", "labels", "lids", "me", "members", "message",
     "messages", "overview", "picture", "restart", "session", "sessions", "version"}
)  # fmt: skip
WAHA_OUTCOMES = frozenset(  # a status; away: no answer; kept_back: the breaker is open
    {
        "200",
        "201",
        "204",
        "400",
        "401",
        "403",
        "404",
        "422",
        "429",
        "500",
        "502",
        "503",
        "504",
        "away",
        "kept_back",
        OTHER,
    }
)

# By metric and label. Labels that are absent here are bounded by what an installation has: see docs/metrics.md.
LABEL_SETS: Mapping[tuple[str, str], frozenset[str]] = {
    ("wapipe_ingress_answers", "code"): frozenset(ANSWERS),
    ("wapipe_ingress_answers", "reason"): frozenset(reason for reasons in ANSWERS.values() for reason in reasons),
    ("wapipe_ingress_events", "event"): EVENTS,
    ("wapipe_ingress_events", "engine"): ENGINES,
    ("wapipe_spool_refused", "reason"): frozenset({"full", "disk"}),
    ("wapipe_spool_set_aside", "flaw"): frozenset({"damaged", "refused"}),
    ("wapipe_records", "outcome"): OUTCOMES,
    ("wapipe_skipped", "event"): EVENTS,
    ("wapipe_dead_letters", "reason"): DEAD_REASONS,
    ("wapipe_stage_seconds", "stage"): frozenset({"decode", "prepare", "copy", "merge", "write", "commit"}),
    ("wapipe_paused", "reason"): PAUSE_REASONS,
    ("wapipe_retries", "reason"): PAUSE_REASONS,
    ("wapipe_sync_messages", "reason"): SYNC_REASONS,
    ("wapipe_sync_messages", "state"): frozenset({"new", "known"}),
    ("wapipe_sync_requests", "reason"): SYNC_REASONS,
    ("wapipe_sync_requests", "outcome"): frozenset({"completed", "failed", "waiting", "lost", "spread"}),
    ("wapipe_sync_open_requests", "status"): SYNC_STATUSES,
    ("wapipe_sync_gaps", "cause"): SYNC_CAUSES,
    ("wapipe_sync_held", "reason"): SYNC_HELD_REASONS,
    ("wapipe_waha_requests", "call"): WAHA_CALLS,
    ("wapipe_waha_requests", "outcome"): WAHA_OUTCOMES,
    ("wapipe_waha_request_seconds", "call"): WAHA_CALLS,
    ("wapipe_commits", "result"): frozenset({"ok", "refused", "failed"}),
    ("wapipe_media_jobs", "state"): frozenset(MEDIA_STATES),
    ("wapipe_media_profile_pictures", "result"): frozenset(MEDIA_PICTURE_RESULTS),
    ("wapipe_media_waiting_jobs", "deadline"): frozenset(MEDIA_DEADLINES),
    ("wapipe_media_waiting_seconds", "deadline"): frozenset(MEDIA_DEADLINES),
    ("wapipe_media_outcomes", "state"): frozenset(MEDIA_REASONS),
    ("wapipe_media_outcomes", "reason"): frozenset(reason for reasons in MEDIA_REASONS.values() for reason in reasons),
    ("wapipe_media_thumbnails", "result"): frozenset({"made", "refused", "again"}),
}
# Each with what bounds it.
BOUNDED_LABELS = {
    "consumer": "registered consumers (`wapipe run --help`)",
    "topic": "topics of `wapipe topics show`, without the installation's prefix",
    "partition": "the topic's partitions, of those assigned to the process",
    "source": "configured WAHA servers (`WAPIPE_WAHA_SOURCE_URLS`) and `default`",
    "status": "HTTP statuses",
    "route": "path templates of the API (`/api/messages/{session}/{chat}`), or `unmatched`",
}


def known(value: str, closed: Container[str]) -> str:
    """The value of a label, or `other` for one that is not in its set."""
    return value if value in closed else OTHER


def begin_ingress() -> None:
    """Counters of the webhook start at 0: an increase is seen only from a value that was there before."""
    for code, reasons in ANSWERS.items():
        for reason in reasons:
            INGRESS_ANSWERS.labels(code, reason)


def begin_consumer(consumer: str) -> None:
    """Counters of a consumer start at 0, likewise."""
    for outcome in OUTCOMES:
        RECORDS.labels(consumer, outcome)
    for reason in DEAD_REASONS:
        DEAD.labels(consumer, reason)
    LOST.labels(consumer)


def begin_media() -> None:
    """Counters of downloads start at 0, likewise."""
    for state, reasons in MEDIA_REASONS.items():
        for reason in reasons:
            MEDIA_OUTCOMES.labels(state, reason)
    for result in ("made", "refused", "again"):
        MEDIA_THUMBNAILS.labels(result)
    for result in MEDIA_PICTURE_RESULTS:
        MEDIA_PICTURES.labels(result)
