"""Row 7: how fast a full stream becomes rows, chain and projections in PostgreSQL."""

import asyncio
import itertools
import random
import time

import asyncpg

from app.ledger.entries import seal
from app.ledger.ledger import Ledger
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Reserve
from tests.bench import tuned
from tests.bench.bed import Bed, House, fetch, run
from tests.bench.draining import JOURNALED, PATIENCE_SECONDS, drained
from tests.bench.engine import BY, MODEL, Step, any_account, load
from tests.bench.figures import Line, Samples
from tests.bench.recount import Recount
from tests.bench.sizes import Sizes, Told

MUST = 25_000
ENTRIES = 200_000
ROUNDS_MAX = 3
WORKERS = (1, 2)
_LOOK_SECONDS = 0.02


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
    shared, more_wrong = _shared(bed, house, recount, rounds, told)
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
        ),
        _line_of(shared, more_wrong),
        tuned.line(bed, rounds, told),
    ]


def _shared(
    bed: Bed, house: House, recount: Recount, rounds: int, told: Told
) -> tuple[dict[int, Samples], int]:
    """Rows a second of so many `lastro worker`s, with all that a worker does beside; and mismatches."""
    told.expect(rounds * len(WORKERS))
    total, wrong = sum(recount.kinds.values()), 0
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(rounds):
        for workers in WORKERS:
            database_url = bed.database(bed.postgres, like=house.database_url.rpartition("/")[2])
            copy = House(house.valkey, database_url, house.token)
            programs = [bed.program(name, copy) for name in (*["worker"] * workers, "cron")]
            rates[workers].append(run(_followed(database_url, total)))
            for program in programs:
                program.stop()
            wrong += run(_wrong(database_url, recount, total))
            told.step(f"{workers} workers {rates[workers][-1]:,.0f} rows/s")
    return {workers: Samples(each) for workers, each in rates.items()}, wrong


async def _followed(database_url: str, total: int) -> float:
    """Rows a second between the first look that finds some and the one that finds all."""
    connection = await asyncpg.connect(database_url, ssl=False)
    gives_up = time.perf_counter() + PATIENCE_SECONDS
    begun_with = await connection.fetchval(JOURNALED)
    first, begun = 0, 0.0
    while (rows := await connection.fetchval(JOURNALED)) < total:
        now = time.perf_counter()
        if now > gives_up:
            raise TimeoutError(f"{rows:,} of {total:,} rows after {PATIENCE_SECONDS:g} s")
        if rows > begun_with and not begun:
            first, begun = rows, now
        await asyncio.sleep(_LOOK_SECONDS)
    rate = (total - first) / (time.perf_counter() - begun)
    await connection.close()
    return rate


def _line_of(shared: dict[int, Samples], wrong: int) -> Line:
    one, two = (shared[workers] for workers in WORKERS)
    return Line(
        "7",
        "journal: the same drained by two `lastro worker` processes that share the shards, against one",
        f"{two.over(one)} times",
        reached=False if wrong else None,
        beside=f"{two} rows/s against {one} rows/s, with all that a worker does beside; PostgreSQL shares "
        f"the cores with them; {wrong} mismatches",
    )


async def _fill(house: House, recount: Recount) -> None:
    async with house.ledger() as ledger:
        step = shop(ledger)
        while sum(recount.kinds.values()) < ENTRIES:
            await load(step, 1.0)
            recount.read_on()


async def _wrong(database_url: str, recount: Recount, total: int) -> int:
    """Rows that are missing, and accounts that PostgreSQL has other sums of than the streams."""
    rows = int((await fetch(database_url, "SELECT count(*) FROM journal"))[0][0])
    accounts = await fetch(database_url, "SELECT account, version, available, held FROM accounts")
    stored = {account: (version, available, held) for account, version, available, held in accounts}
    sums = recount.sums
    return abs(rows - total) + sum(stored.get(name) != sums.get(name) for name in stored.keys() | sums.keys())
