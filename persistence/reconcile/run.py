"""One reconciliation from its beginning to its end, in steps that may be made by different processes.

It walks along the accounts that the journal knows, shard by shard, then along the accounts, the reservations
and what is due in Redis, for what the journal does not know. After every page its place is kept in
its row, so that nothing is lost with whoever works on it, and memory does not grow with the ledger.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from persistence.pool import Connection
from persistence.reconcile import ends, remembered
from persistence.reconcile.drift import Drift
from persistence.reconcile.page import Page, compare_readable
from persistence.reconcile.record import Record
from persistence.reconcile.sides import WAIT_SECONDS, Behind, Sides
from persistence.reconcile.sighting import NotExaminable, Place
from persistence.reconcile.strays import Walked, accounts_in_redis, reservations_in_redis, what_is_due

PAGE = 500
HOLDS_AT_ONCE = 20_000
Found = Callable[[Place, Sequence[Drift]], Awaitable[None]]


async def nothing(_place: Place, _drift: Sequence[Drift]) -> None:
    """What is done about drift where it is only told."""


class Run(Record):
    """A run that was begun. One process at a time works on it (see `working`).

    Args:
        connection: Outside any transaction.
        redis: Its retries are off.
        name: The id that `begin` gave.
        found: Is told of the drift of each page before the run goes on.
        fenced: Also look at shards that refuse; otherwise nothing can be told about those.
        wait_seconds: How long PostgreSQL may need to have what was seen.
    """

    def __init__(
        self,
        connection: Connection,
        redis: Redis,
        name: str,
        *,
        found: Found = nothing,
        fenced: bool = False,
        page: int = PAGE,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        super().__init__(connection, name)
        self._redis = redis
        self._found = found
        self._fenced = fenced
        self._page = page
        self._wait_seconds = wait_seconds

    async def step(self) -> None:
        """Compare one page and keep the place behind it. Repeating a page that was not kept is harmless."""
        steps = {
            "accounts": self._accounts,
            "strays": self._strays,
            "reservations": self._reservations,
            "due": self._due,
            "refunds": self._refunds,
            "given": self._given,
        }
        await steps[self.position.phase]()
        await self._keep()

    # With how many reservations each has open, so that no page is larger than memory should hold.
    NEXT = """
    SELECT account, (
      SELECT count(*) FROM reservations r
      WHERE r.shard = a.shard AND r.account = a.account AND r.status = 'pending'
    ) AS holds
    FROM accounts a WHERE shard = $1 AND account > $2 ORDER BY account LIMIT $3
    """

    async def _accounts(self) -> None:
        position = self.position
        place = await self._place(position.shard)
        rows = await self._connection.fetch(self.NEXT, position.shard, position.after, self._page)
        page: list[str] = []
        holds = 0
        for account, its in rows:
            holds += its
            if page and holds > HOLDS_AT_ONCE:
                break
            page.append(account)
        if place is not None and page and await self._compare(place, page):
            self.accounts += len(page)
            position.after = page[-1]
            return
        if place is not None:
            await self._demand_whole(place)
        position.after = ""
        position.shard += 1
        if position.shard == self.shards:
            position.phase, position.shard = "strays", 0

    async def _strays(self) -> None:
        """Accounts that Redis has and the journal does not know, or not there."""
        found = await accounts_in_redis(self._connection, self._redis, self.position.scan, self.shards)
        for shard, accounts in found.suspicious.items():
            place = await self._place(shard)
            if place is not None:
                await self._compare(place, list(accounts))
        self._scanned(found.scan, "reservations")

    async def _reservations(self) -> None:
        """Reservations that Redis has, open or ended, and the journal does not know like that."""
        found = await reservations_in_redis(self._connection, self._redis, self.position.scan, self.shards)
        for shard, accounts in found.suspicious.items():
            place = await self._place(shard)
            if place is not None:
                await self._compare(place, list(accounts), accounts)
        self._scanned(found.scan, "due")

    async def _due(self) -> None:
        """What Redis lets happen in time, of reservations that have ended and of what is nobody's."""
        position = self.position
        place = await self._place(position.shard)
        try:
            found = await what_is_due(self._connection, self._redis, position.scan, position.shard)
        except ResponseError as error:
            self._note(f"What is due in shard {position.shard} cannot be looked at: {error}.")
            found = Walked(0, {})
        for accounts in found.suspicious.values():
            if place is not None:
                await self._compare(place, list(accounts), accounts)
        position.scan = found.scan
        if found.scan == 0:
            position.shard += 1
        if position.shard == self.shards:
            position.phase, position.shard = "refunds", 0

    async def _refunds(self) -> None:
        """How much Redis remembers to have been given back of a transaction, where the journal says else."""
        scan, suspicious = await remembered.totals_in_redis(
            self._connection, self._redis, self.position.scan, self.shards
        )
        for shard, transactions in suspicious.items():
            await self._compare_refunds(shard, transactions)
        self._scanned(scan, "given")

    async def _given(self) -> None:
        """What was given back within the day, and must be remembered; not what is given back meanwhile."""
        position, connection = self.position, self._connection
        shard = position.shard
        if not position.after:
            position.after = str(await remembered.begins(connection, self._redis, shard))
            position.until = await connection.fetchval(self.CURSOR, shard)
        after = int(position.after)
        given, after = await remembered.given_after(connection, shard, after, position.until)
        if given:
            await self._compare_refunds(shard, given, given)
        position.after = str(after) if after else ""
        if not after:
            position.shard += 1
        if position.shard == self.shards:
            position.phase, position.shard = "end", 0

    async def _compare_refunds(
        self, shard: int, transactions: Collection[str], missed: Collection[str] = ()
    ) -> None:
        place = await self._place(shard)
        if place is None:
            return
        sides = Sides(self._connection, self._redis, place, self._wait_seconds)
        try:
            drift = await remembered.compare(sides, transactions, missed)
        except (NotExaminable, Behind) as error:
            self._note(str(error))
        else:
            await self._tell(place, drift)

    def _scanned(self, scan: int, following: Literal["reservations", "due", "given"]) -> None:
        self.position.scan = scan
        if scan == 0:
            self.position.phase = following

    PLACE = "SELECT incarnation, fence FROM shards WHERE shard = $1"

    async def _place(self, shard: int) -> Place | None:
        row = await self._connection.fetchrow(self.PLACE, shard)
        assert row is not None, "a shard without a row"
        if row["fence"] is not None and not self._fenced:
            self._note(f"Shard {shard} is fenced: {row['fence']}")
            return None
        return Place(self._ledger, shard, None if self._fenced else row["incarnation"])

    async def _compare(
        self, place: Place, page: Sequence[str], more: dict[str, list[str]] | None = None
    ) -> bool:
        """Whether anything could be told."""
        position = self.position
        sides = Sides(self._connection, self._redis, place, self._wait_seconds)
        add_up = [] if more else [each for each in page if position.adds_up(each)]
        try:
            compared = await compare_readable(sides, Page(page, more or {}, add_up))
        except (NotExaminable, Behind) as error:
            self._note(str(error))
            return False
        position.totals.add(compared.totals)
        await self._tell(place, compared.drift)
        return True

    async def _tell(self, place: Place, drift: Sequence[Drift]) -> None:
        if not drift:
            return
        await self._found(place, drift)
        self._add(drift)

    CURSOR = "SELECT cursor FROM shards WHERE shard = $1"

    async def _demand_whole(self, place: Place) -> None:
        await self._tell(place, await ends.end_faults(self._connection, place.shard))
        shard, cursors = place.shard, self.position.cursors
        cursor: int = await self._connection.fetchval(self.CURSOR, shard)
        missing = await ends.gap(self._connection, shard, min(cursors[shard], cursor), cursor)
        if missing is not None:
            drift = [Drift("", f"journal.{shard}.{missing}", None, f"entry {missing} of shard {shard}")]
            await self._tell(place, drift)
            return
        cursors[shard] = cursor


def by_account(drift: Sequence[Drift]) -> dict[str, list[Drift]]:
    """Drift in its order, grouped."""
    in_order = sorted(drift, key=lambda each: each.account_id)
    return {account: list(group) for account, group in groupby(in_order, key=lambda each: each.account_id)}
