"""`lastro reconcile`: everything at once, while somebody waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct, field

from app.ledger.errors import LedgerError
from app.ledger.shards import shard_of
from persistence.pool import Connection
from persistence.reconcile import remembered, sums
from persistence.reconcile.drift import Drift
from persistence.reconcile.hands import NotRepaired
from persistence.reconcile.page import UNREADABLE, Page, compare_readable
from persistence.reconcile.position import begin
from persistence.reconcile.repair import Repaired, Repairer
from persistence.reconcile.run import Run, by_account
from persistence.reconcile.sides import Behind, Sides
from persistence.reconcile.sighting import NotExaminable, Place
from persistence.reconcile.tools import Tools, tools
from persistence.reconcile.work import COMMAND, fence_drifted, working

PATIENCE_SECONDS = 60.0
AGAIN_SECONDS = 0.2

Step = Callable[[str, int], None]
"""Called with what is walked along, and how many accounts were compared by now."""


class Busy(Exception):
    """Another process reconciles, and does not end."""


class Findings(Struct):
    """What a reconciliation came to. `id` is empty where only one account was looked at."""

    id: str
    accounts: int
    drift: list[Drift]
    drifts: int
    unknown: list[str]
    totals: sums.Totals

    @property
    def status(self) -> str:
        if self.drifts:
            return "drift"
        return "unknown" if self.unknown else "equal"


class Repairs(Struct):
    """What could be put right, and what could not (by account, and why)."""

    repaired: list[Repaired] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def alone(database_url: str, redis_url: str) -> AsyncIterator[Tools]:
    """The tools, as soon as no other process reconciles.

    Raises:
        Busy: One goes on and on.
    """
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        async with working(database_url) as connection:
            if connection is not None:
                async with tools(database_url, redis_url, connection, keep=None) as its:
                    yield its
                return
        if time.monotonic() > ends:
            raise Busy("Another `lastro reconcile` is at work; wait until it ends.")
        await asyncio.sleep(AGAIN_SECONDS)


async def everything(its: Tools, by: str, step: Step) -> Findings:
    """A whole run, with the sums of all entries."""
    name = await begin(its.connection, COMMAND + by, full=True)
    run = await Run(its.connection, its.redis, name).load()
    while not run.is_at_end:
        step(run.position.phase, run.accounts)
        await run.step()
    position = run.position
    return Findings(name, run.accounts, run.drift, position.drifts, position.unknown, position.totals)


async def some(its: Tools, accounts: Sequence[str]) -> Findings:
    """Only these accounts, with the sums of their entries; no run is recorded."""
    findings = Findings("", 0, [], 0, [], sums.Totals())
    for account in accounts:
        try:
            place = await place_of(its.connection, account)
            sides = Sides(its.connection, its.redis, place)
            compared = await compare_readable(sides, Page([account], add_up=[account]))
            compared.drift += await remembered.compare_account(sides, account)
        except (Behind, NotExaminable, NotRepaired) as error:
            findings.unknown.append(str(error))
            continue
        if not compared.drift and not await its.connection.fetchval(IS_KNOWN, account):
            findings.unknown.append(f"Neither Redis nor the journal has an account {account}.")
            continue
        findings.accounts += compared.accounts
        findings.drift += compared.drift
        findings.totals.add(compared.totals)
    findings.drifts = len(findings.drift)
    return findings


HOME = """
SELECT ledger.id::text AS id, s.shard, s.incarnation, s.fence FROM ledger, shards s
WHERE s.shard = coalesce((SELECT shard FROM journal WHERE account = $1 ORDER BY version LIMIT 1), $2)
"""

IS_KNOWN = "SELECT EXISTS (SELECT FROM accounts WHERE account = $1)"

SHARDS = "SELECT shards FROM ledger WHERE born"


async def place_of(connection: Connection, account: str) -> Place:
    """Where an account is at home.

    Raises:
        NotExaminable: Its shard is fenced.
    """
    count: int = await connection.fetchval(SHARDS)
    row = await connection.fetchrow(HOME, account, shard_of(account, count))
    assert row is not None, "a shard without a row"
    if row["fence"] is not None:
        raise NotExaminable(f"Shard {row['shard']} is fenced: {row['fence']}")
    return Place(row["id"], row["shard"], row["incarnation"])


async def repair(
    its: Tools, by: str, drift: Sequence[Drift], told: Callable[[Repaired], None] = lambda _: None
) -> Repairs:
    """Put right every account of `drift`, one after another; what cannot be put right keeps no other
    waiting.
    """
    repairs = Repairs()
    repairer = Repairer(its.connection, its.redis, its.hands, by)
    for account, found in by_account(drift).items():
        if not account:
            repairs.failed[found[0].field] = (
                "`lastro verify` says what the journal lacks; restore it from a backup."
            )
            continue
        try:
            place = await place_of(its.connection, account)
            # So that nothing more goes wrong with it: a call on what is wrong would fence its whole shard.
            await fence_drifted(its.connection, its.hands, place, found)
            repaired = await repairer.repair(place, account, found)
        except (NotRepaired, Behind, NotExaminable) as error:
            repairs.failed[account] = str(error)
        except UNREADABLE as error:
            repairs.failed[account] = f"PostgreSQL cannot read it ({error}); see `lastro verify`."
        except LedgerError as error:
            repairs.failed[account] = f"{error.word}: {error.facts.get('why', 'try again')}"
        else:
            repairs.repaired.append(repaired)
            told(repaired)
    return repairs
