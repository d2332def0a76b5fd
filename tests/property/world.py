"""What plans need to know to become operations: which things there are, and amounts near their edges."""

from dataclasses import dataclass, field
from typing import Literal

from hypothesis import strategies as st

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Original
from app.ledger.shards import shard_of
from tests.reference import Line, Reference
from tests.reference.refunds import original_of, originals_of

ACCOUNTS = ["ada", "eve", "org:7@example", "a", "b", "Z" * 128]
FUNDED = ACCOUNTS[:3]
TASKS = ["t-1", "t:2", 'a "task"', "/"]
PROVIDERS = [None, "fal", "bfl"]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MAY_HAVE_ENDED, NOBODYS = 5, 6

plain_amounts = st.one_of(
    st.integers(1, 60),
    st.sampled_from([10**14, 123_456_789_012_345, 10**15, 10**15 + 1, 2**52, CREDITS_MAX - 1, CREDITS_MAX]),
    st.integers(1, CREDITS_MAX),
)

Edge = Literal["none", "available", "floor", "all", "room", "held", "reach", "left", "debt"]


@dataclass(frozen=True)
class Amount:
    """A number, or one near an edge of the account, the reservation or the transaction that it is for."""

    edge: Edge
    by: int

    def on(
        self, ledger: Reference, account: str, reservation: str | None = None, left: int = 0, least: int = 1
    ) -> int:
        owner, hold = ledger.accounts.get(account), ledger.holds.get(reservation or "")
        available, held, room, debt = (
            (owner.available, owner.held, owner.room, owner.debt) if owner else (0, 0, 0, 0)
        )
        mine = hold.held or hold.unspent if hold else 0
        edges: dict[Edge, int] = {
            "none": 0, "available": available, "floor": room, "all": room + held,
            "room": CREDITS_MAX - available - held, "held": mine, "reach": mine + room,
            "left": left, "debt": debt,
        }  # fmt: skip
        return max(least, min(CREDITS_MAX, edges[self.edge] + self.by))


def amounts(*edges: Edge) -> st.SearchStrategy[Amount]:
    """Small ones, huge ones, and those one or two off the edges."""
    return st.one_of(
        st.builds(Amount, st.just("none"), st.integers(1, 60)),
        st.builds(Amount, st.just("none"), plain_amounts),
        st.builds(Amount, st.sampled_from(edges), st.integers(-2, 1)),
        st.builds(Amount, st.sampled_from(edges), st.integers(-2, 1)),
    )


@dataclass
class World:
    """The reference, the time, and the reservations that have been asked for."""

    ledger: Reference
    now_ms: int
    reservations: list[str] = field(default_factory=list)
    _made: int = 0

    def new_number(self) -> int:
        self._made += 1
        return self._made

    def new_reservation(self, account: str) -> str:
        """Like `new_reservation_id`, but the same in every run of an example."""
        shard = shard_of(account, self.ledger.shards)
        return f"01a00000-0000-7{shard:03x}-8000-{self.new_number():012x}"

    def reservation(self, number: int) -> str:
        """0: the one asked for last, perhaps in this very call; else an open one, one of all, or nobody's."""
        holds = self.ledger.holds
        if number == 0 and self.reservations:
            return self.reservations[-1]
        some = [id_ for id_, hold in holds.items() if hold.status == "pending"]
        if number == MAY_HAVE_ENDED or not some:
            some = [*holds]
        if some and number != NOBODYS:
            return some[-number % len(some)]
        return f"01a00000-0000-7{number % self.ledger.shards:03x}-9000-000000000000"

    def subject(self, number: int, account: str, *, whole: bool, foreign: bool) -> tuple[str, str | None]:
        """A reservation, and for half of the plans an account that should be its owner and may be another."""
        id_ = self.reservation(number)
        hold = self.ledger.holds.get(id_)
        if foreign:
            return id_, account
        return id_, hold.account if hold and whole else None

    def spent(self, account: str, number: int, *, by_reservation: bool) -> list[Original]:
        """What could be given back to an account: a transaction, or all that its reservation has spent."""
        shard = self.ledger.journal[shard_of(account, self.ledger.shards)]
        kinds = {"deducted", "confirmed"}
        lines: list[Line] = [
            line for line in shard if line.entry.account == account and line.entry.kind in kinds
        ]
        if not lines:
            return []
        line = lines[-1 - number % len(lines)]
        if by_reservation and line.entry.reservation:
            return originals_of(self.ledger, self.ledger.holds[line.entry.reservation])
        return [original_of(self.ledger, line)]
