"""What travels: topics, ids, WAHA's payloads and our rows. Pure: no I/O, no clock, no environment."""
