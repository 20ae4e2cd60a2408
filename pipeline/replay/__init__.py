"""Replay: a range of the topics through a registered consumer's own code once more, with books of its own, beside the
live consumer, or into a scratch schema to see what would be different."""
