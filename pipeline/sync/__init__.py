"""Fetching what is missing from WAHA: requests (state), the walk over a history, envelopes, the worker that does it."""
