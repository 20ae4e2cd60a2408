"""Payloads of four engines into facts. Pure functions, one file a subject, engine differences beside each other."""
