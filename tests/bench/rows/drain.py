"""Row 7: how fast a full stream becomes rows, chain and projections in PostgreSQL."""

import asyncio
import contextlib
import itertools
import random
import time

from app.ledger.entries import seal
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve
from persistence.drain import drain
from tests.bench.bed import Bed, House, fetch, run
from tests.bench.engine import BY, MODEL, Step, any_account, load
from tests.bench.figures import Line, Samples
from tests.bench.recount import Recount
from tests.bench.sizes import Sizes, Told

MUST = 25_000
ENTRIES = 200_000
ROUNDS_MAX = 3
_PATIENCE_SECONDS = 120.0


def shop(ledger: Ledger) -> Step:
    """What a shop does: jobs that reserve, often name their task, and mostly succeed; single deducts; grants.

    Every tenth has notes.
    """
    accounts, numbers, draw = any_account(), itertools.count(), random.Random(3)

    async def job(account: str, notes: str | None, notes_hash: str | None) -> None:
        made = await ledger.new_reservation_id(account)
        await ledger.reserve(
            Reserve(
                account=account, reservation=made, amount=draw.randint(5, 60), model=MODEL, by=BY,
                notes=notes, notes_hash=notes_hash,
            )
        )  # fmt: skip
        if draw.random() < 0.5:
            await ledger.bind(Bind(reservation=made, task=f"task-{next(numbers)}", provider="fal", by=BY))
        if draw.random() < 0.85:
            await ledger.confirm(Confirm(reservation=made, amount=draw.choice((None, 4)), by=BY))
        else:
            await ledger.cancel(Cancel(reservation=made, cause="failed", by=BY))

    async def step() -> None:
        account, chance = next(accounts), draw.random()
        sealed = seal("a job of the shop", None, {"order": "A-17"}) if draw.random() < 0.1 else None
        notes, notes_hash = (sealed.text, sealed.hash) if sealed else (None, None)
        if chance < 0.05:
            await ledger.grant(Grant(account=account, amount=100, bucket="extras", by=BY))
        elif chance < 0.5:
            await ledger.deduct(
                Deduct(account=account, amount=3, model=MODEL, by=BY, notes=notes, notes_hash=notes_hash)
            )
        else:
            await job(account, notes, notes_hash)

    return step


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    rounds = min(ROUNDS_MAX, sizes.rounds)
    told.expect(rounds + 1)
    told.say(f"filling the streams with {ENTRIES:,} entries")
    house = bed.house()
    recount = Recount(house.valkey.url)
    run(_fill(house, recount))
    told.step("filled")
    total, wrong, rates = sum(recount.kinds.values()), 0, []
    for _ in range(rounds):
        # Each round begins with the database as it was before, and the same streams.
        database_url = bed.database(bed.postgres, like=house.database_url.rpartition("/")[2])
        taken = run(drained(database_url, house.valkey.url, total))
        wrong += run(_wrong(database_url, recount, total))
        rates.append(total / taken)
        told.step(f"{rates[-1]:,.0f} rows/s")
    recount.close()
    rate = Samples(rates)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in recount.kinds.most_common())
    return [
        Line(
            "7",
            "journal: rows drained from full streams into PostgreSQL, with indexes, chain and projections",
            f"{rate} rows/s",
            f"≥ {MUST:,} rows/s",
            rate.median >= MUST and not wrong,
            f"one worker, {total:,} rows: {kinds}; {wrong} mismatches",
        )
    ]


async def _fill(house: House, recount: Recount) -> None:
    async with house.ledger() as ledger:
        step = shop(ledger)
        while sum(recount.kinds.values()) < ENTRIES:
            await load(step, 1.0)
            recount.read_on()


async def drained(database_url: str, redis_url: str, total: int) -> float:
    """How many seconds it took until the last row was committed."""
    committed = 0.0

    async def barrier(step: str) -> None:
        nonlocal committed
        if step == "after commit":
            committed = time.perf_counter()

    begun = time.perf_counter()
    draining = asyncio.create_task(
        drain(database_url, redis_url, _PATIENCE_SECONDS, keep=None, barrier=barrier), name="drain"
    )
    while not draining.done():
        await asyncio.sleep(0.2)
        if (await fetch(database_url, "SELECT sum(cursor) FROM shards"))[0][0] == total:
            break
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
    return committed - begun


async def _wrong(database_url: str, recount: Recount, total: int) -> int:
    """Rows that are missing, and accounts that PostgreSQL has other sums of than the streams."""
    rows = int((await fetch(database_url, "SELECT count(*) FROM journal"))[0][0])
    accounts = await fetch(database_url, "SELECT account, version, available, held FROM accounts")
    stored = {account: (version, available, held) for account, version, available, held in accounts}
    sums = recount.sums
    return abs(rows - total) + sum(stored.get(name) != sums.get(name) for name in stored.keys() | sums.keys())
