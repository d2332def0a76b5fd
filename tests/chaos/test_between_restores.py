"""A Redis that loses everything under load, and is made again while its customers keep asking."""

import asyncio
import contextlib
import random
import secrets
from contextlib import AsyncExitStack

from app.ledger import keys, replies, scripts
from app.ledger.calls import Call
from app.ledger.errors import Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from app.ledger.running import run
from app.ledger.shards import shard_of
from persistence.admission import admit
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.journaled import Journaled
from persistence.restore import restore
from tests.integration.books import assert_conserved
from tests.integration.ledgers import watchful_process
from tests.integration.restore.looking import Looking

SHARDS = 4
ACCOUNTS = {shard_of(name, SHARDS): name for name in (f"account-{number}" for number in range(50))}
"""One account for each shard."""


class Customer:
    """Deducts 1 at a time, each under a key of its own, and keeps what it was told for certain."""

    def __init__(self, ledger: Ledger, journaled: Journaled, account: str) -> None:
        self._ledger = ledger
        self._journaled = journaled
        self._account = account
        self.asked: list[Deduct] = []
        self.certain: dict[str, str] = {}
        """Receipts of what was acknowledged and journaled, by key."""

    async def shop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            key = secrets.token_hex(8)
            deduct = Deduct(account=self._account, amount=1, key=key, fingerprint="f")
            self.asked.append(deduct)
            try:
                receipt = await self._ledger.deduct(deduct)
            except Unavailable:
                await asyncio.sleep(0.01)
                continue
            if await self._journaled.wait(
                receipt.shard, receipt.sequence, receipt.entry.nonce, receipt.entry.incarnation, 0.2
            ):
                self.certain[key] = str(receipt.transaction)


async def test_what_was_acknowledged_and_journaled_is_there_after_everything_was_lost(
    database, database_url, redis, redis_url, tmp_path
):
    await give_birth(database_url, redis_url, SHARDS)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(watchful_process(database, redis_url)) for _ in range(2)]
        for name in ACCOUNTS.values():
            await ledgers[0].grant(Grant(account=name, amount=1_000_000))
        journaled = Journaled(database)
        customers = [Customer(each, journaled, name) for each in ledgers for name in ACCOUNTS.values()]
        working = asyncio.create_task(drain(database_url, redis_url, 60.0, keep=None))
        async with asyncio.TaskGroup() as group:
            for each in customers:
                group.create_task(each.shop(stop))
            for _ in range(2):
                await _all_get_on(customers)
                await redis.flushall()
                found = await restore(database_url, redis_url, salvage=tmp_path / "orphans", watch=Looking())
                assert found is not None
                assert (found.drift, found.fences) == ([], {})
            await _all_get_on(customers)
            stop.set()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        while (drained := await drain(database_url, redis_url, 0.3, keep=None)).rows:
            assert drained.condemned == []
        await _assert_nothing_lost_or_doubled(database, ledgers, customers)
    await assert_conserved(database)


async def _all_get_on(customers: list[Customer]) -> None:
    before = [len(each.certain) for each in customers]
    async with asyncio.timeout(20):
        while True:
            if all(len(each.certain) > then + 3 for each, then in zip(customers, before, strict=True)):
                return
            await asyncio.sleep(0.02)


async def _assert_nothing_lost_or_doubled(database, ledgers, customers) -> None:
    rows = await database.fetch("SELECT operation_key, count(*) FROM journal GROUP BY 1")
    times = {row["operation_key"]: row["count"] for row in rows}
    for customer in customers:
        assert {times[key] for key in customer.certain} == {1}
        assert max(times.get(each.key, 0) for each in customer.asked) == 1
        known = [each for each in customer.asked if each.key in customer.certain]
        for deduct in random.Random(1).sample(known, 5):
            again = await ledgers[0].deduct(deduct)
            assert (again.replayed, str(again.transaction)) == (True, customer.certain[deduct.key])


async def test_a_late_copy_of_a_call_does_not_apply_twice_because_shard_0_was_restored(
    database, database_url, redis, redis_url, tmp_path
):
    """Lanes live in shard 0, and tell it apart for the shards that go on."""
    await give_birth(database_url, redis_url, SHARDS)
    terms = await admit(database, redis)
    seconds, _ = await redis.time()
    call = Call(
        terms.ledger, terms.server, "nonce", 1, seconds * 1000 + 30_000, [(1, terms.incarnations[1])],
        1_000_000, 1 << 30, [Grant(shard=1, account=ACCOUNTS[1], amount=5, open=True)],
    )  # fmt: skip
    text = replies.msgspec.json.encode(call).decode()
    names = [keys.lane(0, "late"), keys.meta(1)]
    first = await run(redis, scripts.load("apply"), names, [text])
    await redis.delete(keys.meta(0))
    assert (await admit(database, redis)).fences.keys() == {0}
    await restore(database_url, redis_url, salvage=tmp_path / "orphans", watch=Looking())
    assert await run(redis, scripts.load("apply"), names, [text]) == first
    async with watchful_process(database, redis_url) as ledger:
        assert (await ledger.balance(ACCOUNTS[1])).account.available == 5
