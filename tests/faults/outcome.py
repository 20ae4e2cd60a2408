"""What came of one scenario, and whether the promise was kept."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """Counts of different things, seconds, and whatever else is worth a note."""

    scenario: str
    received: int = 0  # deliveries answered 2xx
    given_up: int = 0  # by WAHA, after all its tries
    events: int = 0  # different events among those received
    messages: int = 0  # different messages among those received
    stored: int = 0  # rows of messages
    doubled: int = 0  # rows beyond one a message
    lost: int = 0  # messages answered 2xx without a row, events answered 2xx that are in no topic
    strange: int = 0  # rows of messages that were never sent
    bad: int = 0  # different bad deliveries among those received
    dead: int = 0  # of these, dead-lettered (by every consumer) or parked
    dead_good: int = 0  # dead letters that are none of the bad ones
    difference: int = 0  # of the books
    otherwise: int = 0  # rows, of any table, that a replay of the same records makes otherwise
    longest_stall_s: float = 0.0  # without anything newly stored, under traffic
    longest_refusal_s: float = 0.0  # without a 2xx, under traffic
    notes: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Lost 0, doubled 0, dead-lettered = the bad ones; the books and a replay say the same."""
        zero = ("doubled", "lost", "strange", "dead_good", "difference", "otherwise")
        assert {name: getattr(self, name) for name in zero} == dict.fromkeys(zero, 0), self.line()
        assert self.dead == self.bad, self.line()
        assert self.received > 0, self.line()

    def line(self) -> str:
        """For people."""
        notes = "".join(f"; {k}: {v}" for k, v in self.notes.items())
        return (
            f"{self.scenario}: received {self.received}, given up by WAHA {self.given_up}, stored {self.stored} of "
            f"{self.messages} messages, doubled {self.doubled}, lost {self.lost}, dead-lettered {self.dead} of {self.bad} "
            f"bad and {self.dead_good} good, books differ by {self.difference}, rows by {self.otherwise}, longest stall "
            f"{self.longest_stall_s:.1f} s, longest without a 2xx {self.longest_refusal_s:.1f} s{notes}"
        )
