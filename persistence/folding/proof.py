"""What an entry says of itself alone: its legs come to its amount, in the way of its kind."""

from app.ledger.entries import Entry, Kind


class Contradiction(Exception):
    """An entry says one thing and what came before it another. The text says which."""


_WAY: dict[Kind, int] = {
    "granted": 1, "refunded": 1, "adjusted": 1,
    "deducted": -1, "confirmed": -1, "lapsed": -1,
    "reserved": 0, "cancelled": 0, "expired": 0, "extended": 0, "bound": 0, "configured": 0, "repaired": 0,
}  # fmt: skip
"""Whether the amount comes in, goes, or stays."""

_STILL = frozenset({"extended", "bound", "configured", "repaired"})
"""What moves nothing at all."""


def takes_a_lost_place(entry: Entry) -> bool:
    """Whether it was made in the place of one that PostgreSQL has lost: it stands for others, too."""
    return entry.adopted is not None or entry.stands is not None


def demand_proved(entry: Entry, moved: int) -> None:
    """Demand that `moved`, the sum of the entry's legs, is what it says.

    Raises:
        Contradiction: It is not.
    """
    is_wrong = moved != _WAY[entry.kind] * entry.amount or (entry.amount and entry.kind in _STILL)
    if is_wrong and not takes_a_lost_place(entry):
        raise Contradiction(f"is of {entry.amount} {entry.kind}, and its legs move {moved}")
