"""What the ledger must answer."""

from typing import NamedTuple

from app.ledger import replies
from app.ledger.entries import Entry


class Line(NamedTuple):
    """One line of a shard's journal. The nonces and the incarnation of its entry are not told here."""

    sequence: int
    entry: Entry
    notes: str | None


class Applied(NamedTuple):
    """What was done, now or (replayed) before; `account` and `reservation` always show the present.

    `line` is `None` when there was nothing to do: settings that are as they should be.
    """

    line: Line | None
    account: replies.Account
    reservation: replies.Reservation | None
    replayed: bool = False


class Refused(NamedTuple):
    """What was refused, now or (replayed) before, and the facts of the refusal."""

    word: str
    facts: dict[str, int | str]
    replayed: bool = False


class Seen(NamedTuple):
    """What was read. `reservations`: of a balance the pending ones by deadline, else the one asked for.

    A task is located without looking at its reservation: then there is only `located`, the reservation's id.
    A transaction is traced to its `line`.
    """

    account: replies.Account | None
    reservations: list[replies.Reservation]
    located: str | None = None
    line: Line | None = None


Outcome = Applied | Refused | Seen


class No(Exception):
    """A refusal on its way out of a verb. Nothing has been changed yet."""

    def __init__(self, word: str, **facts: int | str) -> None:
        super().__init__(word, facts)
        self.refused = Refused(word, facts)


class Again(Exception):
    """What was asked for has been done before, by this line. On its way out of a verb like a refusal."""

    def __init__(self, line: Line) -> None:
        super().__init__(line.sequence)
        self.line = line
