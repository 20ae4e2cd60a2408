"""WAHA's REST: `WahaServers` knows the configured servers, `Waha` the calls of one, `WahaClient` its HTTP."""

from pipeline.waha.calls import ALL_CHATS, SWEEPING_ENGINES, Waha
from pipeline.waha.client import Limits, WahaClient
from pipeline.waha.servers import WahaServers, split_session

__all__ = ["ALL_CHATS", "SWEEPING_ENGINES", "Limits", "Waha", "WahaClient", "WahaServers", "split_session"]
