"""What stands beside Lastro in the benchmark does what it is said to do: else its figures mean nothing."""

import asyncio

import asyncpg
import pytest

from app.embedded import Valkey
from app.ledger.errors import AccountNotFound, InsufficientCredits
from app.ledger.operations import Deduct, Grant
from app.settings import Settings
from persistence.birth import give_birth
from tests.bench.bed import ACCOUNTS, CREDITS, SHARDS, House
from tests.bench.guarded import Bare, Guarded
from tests.bench.in_postgres import InPostgres
from tests.bench.locking import LockingLedger
from tests.bench.recount import Recount
from tests.bench.unbatched import UnbatchedLedger

ACCOUNT = ACCOUNTS[7]
AT_ONCE = 40


async def held(database_url: str) -> tuple[int, int, int]:
    """Available and version of the account, and how many entries it has."""
    connection = await asyncpg.connect(database_url, ssl=False)
    available, version = await connection.fetchrow(
        "SELECT available, version FROM bench_accounts WHERE account = $1", ACCOUNT
    )
    entries = await connection.fetchval("SELECT count(*) FROM bench_entries WHERE account = $1", ACCOUNT)
    await connection.close()
    return available, version, entries


@pytest.mark.parametrize(("kind", "entries"), [(LockingLedger, AT_ONCE), (Guarded, AT_ONCE), (Bare, 0)])
async def test_deducts_at_once_are_all_taken_from_the_row(
    database_url: str, kind: type[InPostgres], entries: int
):
    ledger = await kind.open(database_url, durable=True)
    receipts = await asyncio.gather(
        *(ledger.deduct(Deduct(account=ACCOUNT, amount=3, by="key:a")) for _ in range(AT_ONCE))
    )
    assert sorted(each.sequence for each in receipts) == list(range(1, AT_ONCE + 1))
    assert await held(database_url) == (CREDITS - 3 * AT_ONCE, AT_ONCE, entries)
    await ledger.close()


@pytest.mark.parametrize("kind", [LockingLedger, Guarded, Bare])
async def test_what_the_row_does_not_have_is_refused_and_nothing_moves(
    database_url: str, kind: type[InPostgres]
):
    ledger = await kind.open(database_url, durable=True)
    with pytest.raises(InsufficientCredits) as refused:
        await ledger.deduct(Deduct(account=ACCOUNT, amount=CREDITS + 1, by="key:a"))
    assert refused.value.facts == {"required": CREDITS + 1, "available": CREDITS}
    with pytest.raises(AccountNotFound):
        await ledger.deduct(Deduct(account="nobody", amount=1, by="key:a"))
    assert await held(database_url) == (CREDITS, 0, 0)
    await ledger.close()


async def test_one_call_for_each_request_writes_the_same_entries(database_url: str, own_valkey: Valkey):
    await give_birth(database_url, own_valkey.url, SHARDS)
    house = House(own_valkey, database_url, "")
    async with house.ledger() as ledger:
        await ledger.grant(Grant(account=ACCOUNT, amount=CREDITS))
        peer = await UnbatchedLedger.open(
            Settings(redis_url=own_valkey.url, database_url=database_url, shards=SHARDS)
        )
        receipts = await asyncio.gather(
            *(peer.deduct(Deduct(account=ACCOUNT, amount=3, by="key:a")) for _ in range(AT_ONCE))
        )
        with pytest.raises(InsufficientCredits):
            await peer.deduct(Deduct(account=ACCOUNT, amount=CREDITS, by="key:a"))
        await peer.close()
    assert sorted(each.entry.version for each in receipts) == list(range(2, AT_ONCE + 2))
    assert min(each.account.available for each in receipts) == CREDITS - 3 * AT_ONCE
    recount = Recount(own_valkey.url)
    await asyncio.to_thread(recount.read_on)
    assert recount.sums == {ACCOUNT: (AT_ONCE + 1, CREDITS - 3 * AT_ONCE, 0)}
    assert await asyncio.to_thread(recount.mismatches) == 0
    recount.close()
