"""Processes that read topics: one file is one process is one consumer group. Adding one is a file and a line here."""

from pipeline.process import Process

PROCESSES = [
    Process("messages", "consumers.messages:main", 4021, "messages into TimescaleDB", "Messages"),
    Process("contacts", "consumers.contacts:main", 4022, "people, groups, labels, calls, presence", "Contacts"),
    Process("sessions", "consumers.sessions:main", 4023, "state and history of each WhatsApp session", "Sessions"),
    Process("media", "consumers.media:main", 4024, "files of messages into S3", "Media"),
    Process("sync", "consumers.sync:main", 4025, "history and people, fetched from WAHA's REST", "Sync"),
]
