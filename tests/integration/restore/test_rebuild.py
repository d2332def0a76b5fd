"""What PostgreSQL alone says about a ledger is what its Redis holds."""

import pytest

from tests.integration.journal.workers import SHARDS
from tests.integration.ledgers import journal_all
from tests.integration.restore.state import assert_same, in_journal, in_redis
from tests.integration.restore.traffic import Traffic


@pytest.mark.parametrize("seed", range(2))
async def test_after_any_traffic_the_journal_says_what_redis_holds_key_by_key(
    caller, database, database_url, redis, redis_url, seed, nightly
):
    traffic = Traffic(caller, SHARDS, seed)
    await traffic.run(1000 if nightly else 150)
    for _ in range(20):  # what is rare may need more of it
        await journal_all(database_url, redis_url)
        if not await _missing(database):
            break
        await traffic.run(25)
    await traffic.leave_open()
    await journal_all(database_url, redis_url)
    seconds, _ = await redis.time()
    async with database.acquire() as connection:
        expected = await in_journal(connection, SHARDS, seconds * 1000)
    found = await in_redis(redis, SHARDS)
    kinds = {name.split(":")[2] for name in found.values}
    assert kinds == {"account", "reservation", "holds", "due", "operation", "task", "refunded"}
    assert_same(expected, found)
    assert await _missing(database) == []


HAPPENED = {
    "late": "reservations WHERE late",
    "part": "reservations WHERE parts IS NOT NULL AND status = 'pending'",
    "ended part": "reservations WHERE parts IS NOT NULL AND held = 0",
    "extension": "reservations WHERE extensions > 0",
    "charge": "reservations WHERE charged > 0 AND NOT late",
    "price": "reservations WHERE price IS NOT NULL",
    "setting": "accounts WHERE status <> 'active' OR overdraft_limit > 0",
    "debt": "journal WHERE entry LIKE '%overdraft%' AND kind = 'deducted'",
    "repayment": "journal WHERE entry LIKE '%overdraft%' AND kind <> 'deducted' AND amount > 0",
    "refund": "refunds",
    "rollover": """journal WHERE entry LIKE '%"rollover"%'""",
    "shortfall": """journal WHERE entry LIKE '%"shortfall"%'""",
}


async def _missing(database) -> list[str]:
    """What the traffic should have brought about, and has not."""
    found = {what: await database.fetchval(f"SELECT count(*) FROM {of}") for what, of in HAPPENED.items()}
    return [what for what, count in found.items() if not count]
