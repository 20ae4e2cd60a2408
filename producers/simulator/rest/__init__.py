"""The simulated WAHA's REST: sessions, chats, messages, people and files over a virtual history, as WAHA serves them.

`SimulatedWaha(Past(…))` is the history, `RestServer` serves it, `serve` is both as a process (`wapipe simulate --serve`).
"""

from producers.simulator.rest.app import RestServer
from producers.simulator.rest.faults import Faults, Rule
from producers.simulator.rest.world import Past, SimulatedSession, SimulatedWaha

__all__ = ["Faults", "Past", "RestServer", "Rule", "SimulatedSession", "SimulatedWaha"]
