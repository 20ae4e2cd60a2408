"""Files of messages into S3: jobs, where a file may be fetched from, how it is stored, and the loops that do it.

consumers/media.py makes jobs of events and runs `loops` beside itself; the API and `wapipe media` read the same tables.
docs/media.md says what an operator sees of it.
"""
