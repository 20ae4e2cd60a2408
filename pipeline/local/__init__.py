"""The local stack: real Kafka, PostgreSQL or TimescaleDB and S3 from packages, and their supervisor.

For development, the demo and the tests, on one machine without Docker. Not for production: see deploy/. The
shell (`pipeline.cli.stack`, the demo) and tests/stack.py call it; nothing else in pipeline imports it.
"""
