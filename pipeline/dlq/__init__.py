"""What an operator does with dead letters: see them, try them, send them through their consumer again, give them up.

The letters stand in topics; what was decided about them stands in the database. `wapipe dlq` is the shell on top.
"""
