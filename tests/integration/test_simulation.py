"""Everything that the ledger can do, mixed at random, from several processes, while workers keep the journal.

Afterwards each entry is proved, everybody finds what he was told in the journal, and a reconciliation finds
Redis and PostgreSQL equal. The seed is printed; to ask for the same again:
`SEED=7 make test TESTS=tests/integration/test_simulation.py`
"""

import asyncio
import os
import secrets
from contextlib import AsyncExitStack

import pytest

from app.ledger.operations import Grant
from app.ledger.stream import Keep
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.reconcile.position import begin
from persistence.reconcile.run import Run
from persistence.session import connect
from tests.integration.customers import BY, Customers
from tests.integration.ledgers import SHARDS, journal_all, process
from tests.integration.proved import proved

PROCESSES = 3
CUSTOMERS = 24

KEEPS = {"kept": None, "trimmed": Keep(0, 0)}
"""What stays in the streams: everything, or nothing, so that the past is asked of PostgreSQL."""


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("SEED") or secrets.randbelow(10**6))
    print(f"SEED={seed}")  # noqa: T201
    return seed


@pytest.mark.parametrize("keep", KEEPS)
async def test_whatever_is_asked_for_credits_are_conserved(
    database, database_url, redis, redis_url, seed, nightly, keep
):
    await give_birth(database_url, redis_url, SHARDS)
    # A shard that begins while a key is looked up, and is trimmed at once, shows nobody how old it is.
    async with process(database, redis_url, seconds=20.0) as ledger:
        for number in range(8 * SHARDS):
            await ledger.grant(Grant(account=f"first-{number}", amount=1))
    await journal_all(database_url, redis_url)
    working = asyncio.create_task(drain(database_url, redis_url, 600.0, keep=KEEPS[keep]))
    async with AsyncExitStack() as open_:
        made = [process(database, redis_url, seconds=20.0) for _ in range(PROCESSES)]
        ledgers = [await open_.enter_async_context(each) for each in made]
        customers = Customers(ledgers, seed)
        times = 500 if nightly else 70
        await asyncio.gather(*(customers.come(times) for _ in range(CUSTOMERS)))
    working.cancel()
    await asyncio.wait({working})
    await journal_all(database_url, redis_url)

    found = await proved(database)
    theirs = {name for name, entry in found.entries.items() if entry.by == BY and entry.kind != "refunded"}
    refunds = {name for name, entry in found.entries.items() if entry.by == BY and entry.kind == "refunded"}
    told = customers.acknowledged
    assert {name: found.entries.get(name) for name in told} == told
    assert theirs <= told.keys() <= theirs | refunds

    connection = await connect(database_url)
    try:
        run = await Run(connection, redis, await begin(connection, "test", full=True)).load()
        while not run.is_at_end:
            await run.step()
    finally:
        await connection.close()
    assert (run.status, run.drift) == ("equal", [])
    print(sorted(customers.told.items()))  # noqa: T201
