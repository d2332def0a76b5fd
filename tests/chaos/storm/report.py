"""What a storm did, as a table for people."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.chaos.storm.records import Applied, Book, Refused


@dataclass
class Report:
    """Of one storm. `silences`: for how many seconds nobody got an answer around each kind, at most."""

    seed: int
    book: Book
    faults: Counter[str] = field(default_factory=Counter)
    silences: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    rounds: int = 0
    rows: int = 0
    late_copies: int = 0
    answers_lost: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not self.book.findings.count

    def table(self) -> str:
        """All of it."""
        book, findings = self.book, self.book.findings
        applied = sum(isinstance(record.outcome, Applied) for record in book.records)
        refused = sum(isinstance(record.outcome, Refused) for record in book.records)
        resolved = sum(record.was_unknown and record.outcome is not None for record in book.records)
        unknown = len(book.records) - applied - refused
        lines = [f"{'fault':<32}{'times':>6}{'longest silence':>18}", "-" * 56]
        for name, times in sorted(self.faults.items()):
            lines.append(f"{name:<32}{times:>6}{self.silences[name]:>16.1f} s")
        numbers = {
            "seed": self.seed,
            "faults": self.faults.total(),
            "rounds, each settled and checked": self.rounds,
            "operations": len(book.records),
            "  applied": applied,
            "  refused": refused,
            "  unknown, resolved by asking again": resolved,
            "  never asked again": unknown,
            "balances looked at": len(book.looks),
            "answers lost on the wire": self.answers_lost,
            "late copies delivered": self.late_copies,
            "rows in the journal": self.rows,
            "lost": findings.lost,
            "doubled": findings.doubled,
            "other findings": findings.count - findings.lost - findings.doubled,
            "seconds": round(self.seconds),
        }
        lines += ["-" * 56, *(f"{name:<40}{number:>16,}" for name, number in numbers.items())]
        return "\n".join(lines)

    def account(self) -> str:
        """The first violations, and how to see them again."""
        findings = self.book.findings
        shown = "\n\n".join(findings.sentences[:5])
        return f"{findings.count} findings; the first of them:\n\n{shown}\n\nseed {self.seed}"
