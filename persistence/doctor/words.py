"""How findings say what they found."""

from collections.abc import Sequence
from datetime import UTC, datetime

SHOWN_MAX = 8


def listed(shards: Sequence[int]) -> str:
    """Shards, the first of many."""
    more = f", ... ({len(shards)} in all)" if len(shards) > SHOWN_MAX else ""
    return ", ".join(map(str, shards[:SHOWN_MAX])) + more


def ago(at: datetime | None) -> str:
    """How long since, in a unit of which there are two at least."""
    if at is None:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
