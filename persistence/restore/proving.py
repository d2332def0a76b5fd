"""The step `prove` of a restore: the tables that it loads are held against their entries.

Redis is compared with the tables when it was loaded, which says nothing if the tables are wrong. What
somebody has changed there is written again by the entries, and recorded among the repairs; a shard whose
entries contradict themselves, or lack some, is not restored. What is drained afterwards is folded onto tables
that are right.

This costs as much as there are entries, and keeps as many of PostgreSQL's cores busy as shards are proved
beside each other.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from persistence import rebuild
from persistence.pool import Connection, Pool
from persistence.reconcile import ends, sums, truth
from persistence.reconcile.drift import Drift, as_jsonb
from persistence.reconcile.hands import NotRepaired
from persistence.reconcile.repair import RECORD
from persistence.reconcile.state import State
from persistence.restore.claim import Claim

BY = "restore"
REASON = "held against the entries before a restore"
VERIFY = "It stays closed. `lastro verify` names what was changed; restore PostgreSQL from a backup."

AT_ONCE = 4
"""Shards, each on a connection of its own."""

_UNREADABLE = (asyncpg.DataError, msgspec.MsgspecError)


class Proved(NamedTuple):
    """`rewritten`: the accounts whose tables were wrong; `wrong`: why a shard is not restored."""

    rewritten: list[str]
    wrong: dict[int, str]


async def prove(pool: Pool, claim: Claim, count: Callable[[int], None]) -> Proved:
    """Hold the tables of the claimed shards against their entries, and write again what is wrong.

    Args:
        pool: Of `AT_ONCE` connections. Nobody else moves these shards.
        claim: Whose.
        count: Is told how many accounts more are done.
    """
    left, suspected, wrong = iter(claim.numbers), dict[int, list[str]](), dict[int, str]()

    async def look() -> None:
        async with pool.acquire() as connection:
            for shard in left:
                if missing := await _missing(connection, shard):
                    wrong[shard] = f"{missing} {VERIFY}"
                else:
                    suspected[shard] = await _suspected(connection, shard, count)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(look())
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    # One after the other: what somebody moved to another shard is wrong in both, until it is mended in one.
    rewritten: list[str] = []
    async with pool.acquire() as connection:
        await connection.execute("SET synchronous_commit = on")
        for shard in sorted(each for each, suspects in suspected.items() if suspects):
            rewritten += await _mend(connection, shard, suspected[shard], wrong)
    return Proved(rewritten, wrong)


async def size(connection: Connection, claim: Claim) -> int:
    """How many accounts there are to hold against their entries."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM accounts WHERE shard = ANY($1::integer[])", claim.numbers
    )
    return found


async def _suspected(connection: Connection, shard: int, count: Callable[[int], None]) -> list[str]:
    """The accounts of a shard that are not what their entries lead to."""
    suspects: list[str] = []
    async for page in rebuild.pages_of_accounts(connection, shard):
        suspects += await _suspects(connection, shard, list(page))
        count(len(page))
    return suspects + [row["account"] for row in await connection.fetch(WITHOUT_ROW, shard)]


OF_SHARD = "SELECT account FROM accounts WHERE shard = $1 AND account = ANY($2::text[]) ORDER BY account"


async def _mend(
    connection: Connection, shard: int, suspects: Sequence[str], wrong: dict[int, str]
) -> list[str]:
    """Returns the accounts that were rewritten; puts into `wrong` why the shard cannot be."""
    rows = [row["account"] for row in await connection.fetch(OF_SHARD, shard, suspects)]
    suspects = await _suspects(connection, shard, rows)
    suspects += [row["account"] for row in await connection.fetch(WITHOUT_ROW, shard)]
    try:
        for account in suspects:
            await _rewrite(connection, shard, account)
    except NotRepaired as error:
        wrong[shard] = f"{error} The shard stays closed."
        return []
    elsewhere = {row["account"] for row in await connection.fetch(ELSEWHERE, suspects, shard)}
    if still := await _faults(connection, shard, set(suspects) - elsewhere):
        first = still[0]
        wrong[shard] = (
            f"The entries of {first.account_id} do not add up ({first.field}: {first.redis}, by the entries "
            f"{first.journal}). {VERIFY}"
        )
    return suspects


async def _missing(connection: Connection, shard: int) -> str | None:
    """What the rows of a shard lack up to its cursor, or have beyond."""
    cursor = await connection.fetchval("SELECT cursor FROM shards WHERE shard = $1", shard)
    gap = await ends.gap(connection, shard, 0, cursor)
    if gap is not None:
        return f"The journal lacks entry {gap} of shard {shard}."
    for each in await ends.end_faults(connection, shard):
        return (
            f"The journal of shard {shard} contradicts its end ({each.field}: {each.redis}, {each.journal})."
        )
    return None


# Accounts of a shard that entries or open reservations name, and that have no row there.
WITHOUT_ROW = """
SELECT account FROM (
  SELECT account FROM journal WHERE shard = $1 AND version = 1
  UNION SELECT account FROM reservations WHERE shard = $1 AND status = 'pending'
) AS named
WHERE NOT EXISTS (SELECT FROM accounts WHERE accounts.account = named.account AND accounts.shard = $1)
ORDER BY account
"""


async def _suspects(connection: Connection, shard: int, accounts: Sequence[str]) -> list[str]:
    """Those of a page that differ; one whose entries cannot even be read is found by halving the page."""
    try:
        wrong = {each.account_id for each in await _faults(connection, shard, accounts)}
    except _UNREADABLE:
        if len(accounts) == 1:
            return list(accounts)
        middle = len(accounts) // 2
        return [
            *await _suspects(connection, shard, accounts[:middle]),
            *await _suspects(connection, shard, accounts[middle:]),
        ]
    return [each for each in accounts if each in wrong]


LAST = """
SELECT account, coalesce((SELECT max(version) FROM journal WHERE journal.account = wanted.account), 0) AS last
FROM unnest($1::text[]) AS wanted (account)
"""

ELSEWHERE = "SELECT account, shard FROM journal WHERE account = ANY ($1) AND version = 1 AND shard <> $2"

HOME = "SELECT shard FROM journal WHERE account = $1 AND version = 1"


async def _faults(connection: Connection, shard: int, accounts: Collection[str]) -> list[Drift]:
    """Where rows of these accounts are not what their entries lead to."""
    if not accounts:
        return []
    async with connection.transaction():
        known = await rebuild.accounts(connection, list(accounts))
        found = [
            Drift(row["account"], "projection.version", its, row["last"])
            for row in await connection.fetch(LAST, list(accounts))
            if (its := known[row["account"]].version if row["account"] in known else 0) != row["last"]
            or (row["account"] in known and its == 0)
        ]
        found += [
            Drift(row["account"], "projection.shard", shard, row["shard"])
            for row in await connection.fetch(ELSEWHERE, list(accounts), shard)
        ]
        states = {name: State.of(name, shard, account, []) for name, account in known.items()}
        faults, _ = await sums.faults(connection, states)
    return found + faults


async def _rewrite(connection: Connection, shard: int, account: str) -> None:
    async with connection.transaction():
        home = await connection.fetchval(HOME, account)
        rewritten = await truth.rewrite(connection, shard if home is None else home, account)
        if rewritten:
            before, after = as_jsonb(rewritten.before), as_jsonb(rewritten.after)
            await connection.fetchval(RECORD, BY, account, "projection", before, after, REASON)
