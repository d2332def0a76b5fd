"""Old months of the journal on another disk: written anew in a tablespace, proved there, and put in the
place of the table that was.

A month that was put away stays a part of the journal. Keys of grants hold for ever, a confirm is replayed for
ever, a balance is the sum of all entries: whatever is answered must be the same afterwards, only slower.

copy     writes the rows anew, in the order of the chain: dense, and never to be cleaned up again
prove    walks along the chain of the copy
place    detaches the old table and attaches the copy, in one transaction of some milliseconds

Nothing of it is done by halves: until the last step the journal is as it was, and whoever was killed goes on
with the copy that there is. What is written to the month meanwhile is copied, too, before it is put in place.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
from msgspec import Struct

from app.ledger.entries import genesis
from persistence.admission_steps import Barrier, past
from persistence.calendar import Ends, Month, ends, months
from persistence.chain import PAGE, PAGE_ROWS, Amiss, Chain, Unchained
from persistence.giving_way import StillUsed, giving_way
from persistence.pool import Connection

COPY_ROWS = 20_000
CATCH_UP_MAX = 5

_LOCK = 0x6D_6F6E_7468_73  # "months"


class ArchiveRefused(Exception):
    """A month was left where it is; the text says why and what to do."""


class Moved(Struct, frozen=True):
    """`bytes`: with its indexes, before and after. Equal tablespaces: it was there already."""

    name: str
    rows: int
    before: str
    after: str
    bytes_before: int
    bytes_after: int


PLACES = """
SELECT spcname, has_tablespace_privilege(oid, 'CREATE') AS may,
  oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database()) AS is_own
FROM pg_tablespace WHERE spcname <> 'pg_global' ORDER BY spcname
"""


async def place_for(connection: Connection, name: str | None) -> str:
    """The tablespace of this name, or that of the database.

    Raises:
        ArchiveRefused: There is none, or this role may make no tables in it.
    """
    rows = await connection.fetch(PLACES)
    found = next((row for row in rows if (row["is_own"] if name is None else row["spcname"] == name)), None)
    if found is None:
        there = ", ".join(row["spcname"] for row in rows)
        raise ArchiveRefused(
            f"PostgreSQL has no tablespace {name}; it has {there}. Make it on the disk that is meant: "
            f"CREATE TABLESPACE {name} LOCATION '/path/of/an/empty/folder'."
        )
    if not (found["may"] or found["is_own"]):
        raise ArchiveRefused(
            f"This role may not make tables in {name}: GRANT CREATE ON TABLESPACE {name} TO it."
        )
    return str(found["spcname"])


async def chosen(
    connection: Connection, names: Sequence[str] = (), over_for_months: int | None = None
) -> list[Month]:
    """The months of these names, or those that have been over for so long; the earliest first.

    Raises:
        ArchiveRefused: There is no such month, or it is not over.
    """
    there = await months(connection)
    if over_for_months is not None:
        until = await connection.fetchval("SELECT now() - make_interval(months => $1)", over_for_months)
        return [each for each in there if each.until <= until]
    known = {each.name: each for each in there}
    for name in names:
        if name not in known:
            raise ArchiveRefused(f"The journal has no month {name}. `lastro months` names those that it has.")
    now: datetime = await connection.fetchval("SELECT now()")
    if still := [name for name in names if known[name].until > now]:
        raise ArchiveRefused(f"{still[0]} is not over: entries are written to it. It stays where it is.")
    return [each for each in there if each.name in names]


async def move(
    connection: Connection,
    month: Month,
    tablespace: str,
    *,
    seen: Callable[[int], None] = lambda _rows: None,
    barrier: Barrier = past,
) -> Moved:
    """Bring a month of the journal to a tablespace. One that is there is left as it is.

    Args:
        connection: One of its own, outside any transaction, of the role that owns the journal.
        month: From `chosen`.
        tablespace: From `place_for`.
        seen: Told now and then how many more rows were copied or proved (each row is both).
        barrier: `after copy`, `after proof`; tests stop there.

    Raises:
        ArchiveRefused: The month is not as it was written, somebody uses it or depends on it, or another one
            moves months.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        raise ArchiveRefused("Another process moves months of this journal now.")
    try:
        return await _Move(connection, month, tablespace, seen, barrier).run()
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


class _Move:
    def __init__(
        self,
        connection: Connection,
        month: Month,
        tablespace: str,
        seen: Callable[[int], None],
        barrier: Barrier,
    ) -> None:
        self._connection = connection
        self._month = month
        self._tablespace = tablespace
        self._seen = seen
        self._barrier = barrier
        self._copy = f"{month.name}_copy"
        self._proved: dict[int, Chain] = {}

    async def run(self) -> Moved:
        month = self._month
        if month.tablespace == self._tablespace:
            return self._moved(month)
        await self._begin()
        for _ in range(CATCH_UP_MAX):
            await self._bring_up()
            if await self._place():
                (now,) = [each for each in await months(self._connection) if each.name == month.name]
                return self._moved(now)
        raise ArchiveRefused(f"{month.name} is written to all the time. It stays where it is.")

    def _moved(self, now: Month) -> Moved:
        before = self._month
        return Moved(now.name, now.rows, before.tablespace, now.tablespace, before.bytes, now.bytes)

    COPY_IN = """
    SELECT coalesce(spcname, (SELECT its.spcname FROM pg_database JOIN pg_tablespace its
      ON dattablespace = its.oid WHERE datname = current_database()))
    FROM pg_class LEFT JOIN pg_tablespace ON reltablespace = pg_tablespace.oid
    WHERE pg_class.oid = to_regclass(quote_ident($1))
    """

    async def _begin(self) -> None:
        """A table for the copy; one that is there goes on, if it is where it should be."""
        connection, copy = self._connection, self._copy
        found = await connection.fetchval(self.COPY_IN, copy)
        if found == self._tablespace:
            return
        async with connection.transaction():
            if found is not None:
                await connection.execute(f'DROP TABLE "{copy}"')
            await connection.execute(
                "SELECT set_config('default_tablespace', $1, true)",
                self._tablespace,
            )
            await connection.execute("SELECT make_journal_table($1)", copy)
            # So that nothing has to be read when it is attached.
            await connection.execute(
                f'ALTER TABLE "{copy}" ADD CONSTRAINT {BOUNDS} CHECK (at >= {_literal(self._month.since)} '
                f"AND at < {_literal(self._month.until)})"
            )

    # What no shard has is not copied; with the table it would be gone.
    STRANGER = """
    SELECT shard FROM "{table}", (SELECT coalesce(max(shards), 0) AS shards FROM ledger) AS its
    WHERE shard < 0 OR shard >= its.shards LIMIT 1
    """

    async def _bring_up(self) -> None:
        """Copy what the copy does not have, prove that, and let PostgreSQL note what there is."""
        stranger = await self._connection.fetchval(self.STRANGER.format(table=self._month.name))
        if stranger is not None:
            raise self._unproved(f"It has rows of shard {stranger}, and the ledger has no such shard.")
        there = {each.shard: each for each in await ends(self._connection, self._copy)}
        for part in await ends(self._connection, self._month.name):
            await self._copied(part, there.get(part.shard))
        await self._barrier("after copy")
        for part in await ends(self._connection, self._copy):
            await self._prove(part)
        await self._connection.execute(f'VACUUM (FREEZE, ANALYZE) "{self._copy}"')
        await self._barrier("after proof")

    async def _copied(self, wanted: Ends, there: Ends | None) -> None:
        at = wanted.first - 1 if there is None else there.last
        statement = f"""
        INSERT INTO "{self._copy}" SELECT * FROM "{self._month.name}"
        WHERE shard = $1 AND seq > $2 AND seq <= $3 ORDER BY seq
        """  # noqa: S608 - names of ours
        while at < wanted.last:
            upto = min(at + COPY_ROWS, wanted.last)
            await self._connection.execute(statement, wanted.shard, at, upto)
            self._seen(upto - at)
            at = upto

    BEFORE = "SELECT hash FROM journal WHERE shard = $1 AND seq = $2"
    LEDGER = "SELECT id FROM ledger"

    async def _prove(self, of: Ends) -> None:
        """Go along the chain of a shard, from the row before the copy to its end."""
        chain = self._proved.get(of.shard) or await self._chain(of)
        self._proved[of.shard] = chain
        page = PAGE.format(table=f'"{self._copy}"')
        try:
            while chain.at < of.last:
                last = min(chain.at + PAGE_ROWS, of.last)
                rows = await self._connection.fetch(page, of.shard, chain.at + 1, last)
                chain.prove(rows, last)
                self._seen(len(rows))
        except (Amiss, Unchained) as error:
            raise self._unproved(str(error)) from error
        if chain.head != await self._connection.fetchval(self.BEFORE, of.shard, of.last):
            raise self._unproved(f"Row {of.last} of shard {of.shard} has another hash than its copy.")

    def _unproved(self, why: str) -> ArchiveRefused:
        return ArchiveRefused(
            f"{self._month.name} stays where it is: its copy does not prove. {why} Run `lastro verify --from "
            f"1`: if it finds the same, the month was changed; if it finds nothing, the copy was, and DROP "
            f"TABLE {self._copy} begins again."
        )

    async def _chain(self, of: Ends) -> Chain:
        before = of.first - 1
        if before:
            head = await self._connection.fetchval(self.BEFORE, of.shard, before)
        else:
            ledger = await self._connection.fetchval(self.LEDGER)
            head = genesis(ledger.bytes, of.shard)
        if head is None:
            raise self._unproved(f"Row {before} of shard {of.shard} is missing.")
        return Chain(of.shard, before, head)

    async def _place(self) -> bool:
        """Whether the copy is the month now: it is not while the month has rows that the copy has not."""
        try:
            return await giving_way(self._connection, self._exchange)
        except StillUsed as error:
            raise ArchiveRefused(
                f"{self._month.name} stays where it is: {error}. The same command goes on with the copy."
            ) from error
        except asyncpg.DependentObjectsStillExistError as error:
            raise ArchiveRefused(
                f"{self._month.name} stays where it is: {error.detail}. Drop that, or let it ask `journal`."
            ) from error

    async def _exchange(self) -> bool:
        connection, month, copy = self._connection, self._month, self._copy
        await connection.execute(f'LOCK TABLE ONLY journal, "{month.name}" IN ACCESS EXCLUSIVE MODE')
        if await ends(connection, month.name) != await ends(connection, copy):
            return False
        bounds = f"FROM ({_literal(month.since)}) TO ({_literal(month.until)})"
        await connection.execute(f"""
        ALTER TABLE journal DETACH PARTITION "{month.name}";
        DROP TABLE "{month.name}";
        ALTER TABLE "{copy}" RENAME TO "{month.name}";
        ALTER TABLE journal ATTACH PARTITION "{month.name}" FOR VALUES {bounds};
        ALTER TABLE "{month.name}" DROP CONSTRAINT {BOUNDS};
        """)
        return True


BOUNDS = "journal_month_bounds"


def _literal(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"
