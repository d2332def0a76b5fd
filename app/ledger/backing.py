"""What the engine asks of the durable side. `main` plugs in PostgreSQL; the engine never sees SQL."""

from typing import Protocol

from msgspec import Struct

from app.ledger.entries import Entry
from app.ledger.replies import Reservation


class BackingUnavailable(Exception):
    """PostgreSQL does not answer. What only it knows is answered 503, never guessed."""


class NotAdmitted(Exception):
    """This Redis cannot be served as it is; the text says why and what to do.

    `cause` is one of `app.ledger.errors`, where one fits.
    """

    def __init__(self, why: str, *, cause: str | None = None) -> None:
        super().__init__(why)
        self.cause = cause


class Terms(Struct, frozen=True):
    """What a process and a Redis server have agreed on, compared by the script in every call.

    `incarnations[shard]` counts admissions; `fences` says why a shard refuses, and `refused` which of them
    refuse because this server is the wrong one: elsewhere they may be served. `server` is the server's
    `master_replid`, or empty where a script cannot ask for it (fakeredis).
    """

    ledger: str
    server: str
    incarnations: list[int]
    fences: dict[int, str]
    refused: frozenset[int] = frozenset()

    @property
    def shards(self) -> int:
        return len(self.incarnations)


class Recorded(Struct, frozen=True):
    """An entry as the journal has it. `notes` is the exact text, `None` where there is none any more."""

    sequence: int
    entry: Entry
    notes: str | None


class Backing(Protocol):
    """Every method raises `BackingUnavailable` when PostgreSQL is away."""

    async def admit(self) -> Terms:
        """Adopt the terms under which this Redis is admitted, or admit it.

        Raises:
            NotAdmitted: The Redis is empty, another ledger's, misconfigured or not the journal's.
        """
        ...

    async def account_known(self, account: str) -> bool:
        """Whether the journal has ever seen the account."""
        ...

    async def entry(self, shard: int, sequence: int) -> Recorded | None:
        """The entry of a sequence number."""
        ...

    async def reservation(self, reservation_id: str) -> Reservation | None:
        """A reservation as the journal last saw it."""
        ...

    async def task(self, provider: str | None, task: str) -> str | None:
        """The latest reservation that a provider's task was bound to."""
        ...
