"""The spool: events on local disk while the broker is away. Format, directories, group commit and draining.

The ingress' policy (when to spool, when to drain) is in producers.spool; `wapipe spool` and the books read the same
directories. Nothing here knows Kafka: draining is given a function that publishes.
"""
