"""What is looked at every few seconds walks along indexes, however long there has been a ledger."""

import pytest

from persistence.alerts import inbox
from persistence.health import endings, mishaps, of_records

PLANS = {
    "endings": (endings.ENDED, [endings.SAMPLE_MAX], "reservations_settled"),
    "expired": (of_records.EXPIRED, [], "reservations_ran_out"),
    "below the floor": (of_records.BELOW, [], "accounts_below_floor"),
    "mishaps": (mishaps.LATELY, ["confirm_conflict"], "mishaps_pkey"),
    "unsettled": (inbox.UNSETTLED, ["conflict", 20, [7]], "webhook_inbox_status"),
}


@pytest.mark.parametrize("name", PLANS)
async def test_it_walks_along_its_index(database, name):
    query, arguments, index = PLANS[name]
    async with database.acquire() as connection, connection.transaction():
        # Empty tables are read whole unless that is forbidden; what has no index is read whole even then.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        rows = await connection.fetch(f"EXPLAIN {query}", *arguments)
    plan = "\n".join(row[0] for row in rows)
    assert index in plan, plan
