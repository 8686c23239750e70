"""How many worker processes an endpoint has: started for jobs that wait, kept, ended when idle or too many. Pure.

Not here: starting and ending them (``workers.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_PROCESSES = 100
"""However high `workers.max` is set: they run on this machine."""


@dataclass(slots=True)
class Scaling:
    """`least` workers are kept, at most `most` there are, idle ones end after `idle_s` seconds."""

    least: int
    most: int
    idle_s: float

    def change(self, least: int, most: int | None, idle_s: float) -> None:
        """`most` None: as many as this machine may have."""
        self.least = least
        self.most = MOST_PROCESSES if most is None else min(most, MOST_PROCESSES)
        self.idle_s = idle_s

    def to_start(self, waiting: int, coming: int, usable: int, own: int) -> int:
        """How many to start: for the jobs that wait beyond the workers `coming` for them, and for the kept ones."""
        return min(max(waiting - coming, self.least - usable), self.most - own)

    def spare(self, busy: int) -> int:
        """How many idle ones may take jobs; fewer than there are once the limit was lowered."""
        return self.most - busy

    def lacks(self, kept: int) -> bool:
        """Whether there are too few, even without jobs."""
        return kept < min(self.least, self.most)

    def ends(self, kept: int, idle_for_s: float) -> bool:
        """Whether an idle worker is one too many."""
        return kept > (min(self.least, self.most) if idle_for_s > self.idle_s else self.most)
