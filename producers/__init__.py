"""Processes that write topics, and what is served together with them."""

from pipeline.process import Process

PROCESSES = [
    Process("gateway", "producers.gateway:main", 4011, "webhook and query API on one port"),
    Process("ingress", "producers.ingress:main", 4012, "webhook alone", part_of_all=False),
    Process("api", "pipeline.api:main", 4011, "query API alone", part_of_all=False),
]
