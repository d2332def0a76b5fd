"""What the engine asks of the durable side. `main` plugs in PostgreSQL; the engine never sees SQL."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

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
    `master_replid`, or empty where a script cannot ask for it (fakeredis). On a cluster no call serves two
    shards, and `servers` says of each who has it; where one server has all of them it is empty.
    """

    ledger: str
    server: str
    incarnations: list[int]
    fences: dict[int, str]
    refused: frozenset[int] = frozenset()
    servers: list[str] = []

    @property
    def shards(self) -> int:
        return len(self.incarnations)

    def server_of(self, shard: int) -> str:
        """Who has a shard."""
        return self.servers[shard] if self.servers else self.server


class Recorded(Struct, frozen=True):
    """An entry as the journal has it. `notes` is the exact text, `None` where there is none any more."""

    sequence: int
    entry: Entry
    notes: str | None


class Keyed(NamedTuple):
    """A caller's key: whose it is (an account `a`, a reservation `r`), for what content it was used, and the
    shard in which that is decided.
    """

    of: Literal["a", "r"]
    id: str
    key: str
    fingerprint: str
    shard: int


class Extent(NamedTuple):
    """How far the journal is in a shard: its last entry, and when that was made (0 and 0: there is none)."""

    sequence: int
    at_ms: int


NOWHERE = Extent(-1, 0)
"""Nothing was learned from the journal, not even that it is empty."""


class Refunded(NamedTuple):
    """What the journal knows to have been given back of an entry, and how far in its shard it knew."""

    credits: int
    journaled: Extent


class Backing(Protocol):
    """Questions are asked in bulk, some thousands at once at most; what is not known is missing in the
    answer.

    Every method raises `BackingUnavailable` when PostgreSQL is away.
    """

    async def admit(self) -> Terms:
        """Adopt the terms under which this Redis is admitted, or admit it.

        Raises:
            NotAdmitted: The Redis is empty, another ledger's, misconfigured or not the journal's.
        """
        ...

    async def accounts_known(self, accounts: Sequence[str]) -> set[str]:
        """Those that the journal has ever seen."""
        ...

    async def recorded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Recorded]:
        """The entries at these shards and sequence numbers."""
        ...

    async def reservations(self, ids: Sequence[str]) -> dict[str, Reservation]:
        """Reservations as the journal last saw them."""
        ...

    async def tasks(self, tasks: Sequence[tuple[str | None, str]]) -> dict[tuple[str | None, str], str]:
        """The latest reservation that each provider's task was bound to."""
        ...

    async def answered(self, keys: Sequence[Keyed]) -> dict[Keyed, Recorded | Extent]:
        """The first entry that was written under each key: one of this content where there is one, else one
        of another. Of a key that has none, how far the journal was when it was looked for.

        A task may be used again, and a request that names it means the reservation that it had then. So what
        was written for an earlier reservation of its task, under the key and of this content, is found too.
        """
        ...

    async def refunded(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Refunded]:
        """How much has been given back of each of the entries at these shards and sequence numbers."""
        ...
