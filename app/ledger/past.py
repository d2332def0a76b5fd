"""The past, as the journal tells it. While PostgreSQL is away that is said, never guessed."""

from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from app.ledger.backing import Backing, BackingUnavailable, Extent, Keyed, Recorded, Refunded
from app.ledger.errors import JOURNAL, LedgerFenced, LedgerUnavailable
from app.ledger.replies import Reservation

T = TypeVar("T")

Place = tuple[int, int]
"""Shard and sequence number."""

Task = tuple[str | None, str]
"""A provider (none is a name space of its own) and its id of the work."""


class Past:
    """Asks the journal, in bulk; nothing is asked where nothing is wanted.

    Every method raises `LedgerUnavailable` while PostgreSQL is away.
    """

    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    async def knows(self, accounts: Iterable[str]) -> set[str]:
        """Those accounts that the journal has ever seen."""
        wanted = [*dict.fromkeys(accounts)]
        return await _asking(self._backing.accounts_known(wanted)) if wanted else set()

    async def entries(self, places: Iterable[Place]) -> dict[Place, Recorded]:
        """Those of the entries that the journal has."""
        wanted = [*dict.fromkeys(places)]
        return await _asking(self._backing.recorded(wanted)) if wanted else {}

    async def answered(self, keys: Iterable[Keyed]) -> dict[Keyed, Recorded | Extent]:
        """The entry of each key, of this content if there is one; or how far the journal is that has none."""
        wanted = [*dict.fromkeys(keys)]
        return await _asking(self._backing.answered(wanted)) if wanted else {}

    async def reservations(self, ids: Iterable[str]) -> dict[str, Reservation]:
        """Those reservations that the journal knows, as it last saw them."""
        wanted = [*dict.fromkeys(ids)]
        return await _asking(self._backing.reservations(wanted)) if wanted else {}

    async def tasks(self, tasks: Iterable[Task]) -> dict[Task, str]:
        """The reservation that each task was last bound to, as far as there is one."""
        wanted = [*dict.fromkeys(tasks)]
        return await _asking(self._backing.tasks(wanted)) if wanted else {}

    async def refunded(self, places: Sequence[Place]) -> dict[Place, Refunded]:
        """What has been given back of these entries."""
        return await _asking(self._backing.refunded(places)) if places else {}


def missing_entry(shard: int, sequence: int) -> LedgerFenced:
    """An entry that was answered, that Redis no longer has, and the journal never got."""
    return LedgerFenced(shard=shard, why=f"the journal lacks entry {sequence}, which Redis has forgotten")


def missing_account(shard: int, account: str) -> LedgerFenced:
    """Drift: never "not found", and never opened anew."""
    return LedgerFenced(shard=shard, why=f"account {account} is in the journal and missing in Redis")


def missing_reservation(shard: int, reservation: str) -> LedgerFenced:
    """Drift: what is open in the journal is open in Redis, or something is wrong."""
    return LedgerFenced(
        shard=shard, why=f"reservation {reservation} is open in the journal and missing in Redis"
    )


async def _asking(question: Awaitable[T]) -> T:
    try:
        return await question
    except BackingUnavailable as error:
        raise LedgerUnavailable(why=str(error), cause=JOURNAL) from error
