"""A simulated WAHA: plays signed webhooks, recorded or made up, as the real one sends them. It is a client.

`traffic` makes deliveries of all four engines from a seed, `recorded` yields those of a real WAHA, `play`
sends either. Used by `wapipe simulate`, the demo, the benchmarks and the tests.
"""

from producers.simulator.delivery import Delivery
from producers.simulator.facts import ENGINES, Engine
from producers.simulator.player import OnAnswer, Target, play
from producers.simulator.recorded import RECORDED_KEY, recorded
from producers.simulator.report import Latencies, Report
from producers.simulator.retry import Policy, Retry
from producers.simulator.traffic import START_MS, Profile, traffic

__all__ = [
    "ENGINES",
    "RECORDED_KEY",
    "START_MS",
    "Delivery",
    "Engine",
    "Latencies",
    "OnAnswer",
    "Policy",
    "Profile",
    "Report",
    "Retry",
    "Target",
    "play",
    "recorded",
    "traffic",
]
