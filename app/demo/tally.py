"""What became of the jobs, and what should not have happened."""

from collections import Counter
from enum import StrEnum

_FINDINGS_MAX = 20


class End(StrEnum):
    """How a job ends, in the words that people read."""

    SUCCEEDED = "succeeded"
    IN_PART = "in part"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    TURNED_AWAY = "no credits"
    AMISS = "went amiss"


class Tally:
    """Of one run."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: Counter[End] = Counter()
        self.twice = 0
        """Jobs that frontend and webhook confirmed at the same instant, to one transaction."""
        self.races = 0
        """Jobs that were confirmed and cancelled at the same instant, to one ending."""
        self.findings: list[str] = []
        """Promises that were broken; the first of them."""
        self.found = 0

    @property
    def running(self) -> int:
        return self.started - self.ended.total()

    def find(self, what: str) -> None:
        """Note a broken promise."""
        self.found += 1
        if len(self.findings) < _FINDINGS_MAX:
            self.findings.append(what)
