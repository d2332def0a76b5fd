"""The sweep ends what is due and nobody touches."""

import asyncio

import msgspec
from redis import Redis

from app.ledger import keys
from app.ledger.ledger import Ledger
from app.ledger.operations import Grant, Reserve
from app.ledger.shards import shard_of_reservation
from persistence.fences import fence
from persistence.workbench import Workbench
from tests.integration.jobs.waiting import eventually
from tests.processes import CRON, WORKER, argument


async def hold(ledger: Ledger, account: str) -> str:
    """An account of 100 credits, 13 of them held for one second."""
    await ledger.grant(Grant(account=account, amount=100))
    reservation = await ledger.new_reservation_id(account)
    await ledger.reserve(Reserve(account=account, reservation=reservation, amount=13, ttl_ms=1_000))
    return reservation


def stored(queues: Redis, reservation: str) -> dict[str, object]:
    shard = shard_of_reservation(reservation, 4)
    return msgspec.json.decode(queues.get(keys.reservation(shard, reservation)))


async def test_the_sweep_ends_what_is_due_in_every_shard_and_nobody_touched(ledger, queues, work):
    reservations = [await hold(ledger, f"acc-{number}") for number in range(8)]
    assert {0, 1, 2, 3} == {shard_of_reservation(each, 4) for each in reservations}
    bench = Workbench(work)
    bench.open()
    ended = 0
    async with asyncio.timeout(10):
        while ended < 8:
            assert 4 == await asyncio.to_thread(bench.run, bench.sweep)
            ended = sum(stored(queues, each)["status"] == "cancelled" for each in reservations)
    bench.close()
    assert {"expired"} == {stored(queues, each)["cancel_cause"] for each in reservations}


async def test_a_fenced_shard_does_not_keep_the_others_from_being_swept(ledger, queues, work):
    reservations = [await hold(ledger, f"acc-{number}") for number in range(8)]
    fenced = {each for each in reservations if shard_of_reservation(each, 4) == 0}
    queues.hset(keys.meta(0), "fence", "for the test")
    bench = Workbench(work)
    bench.open()
    ended: set[str] = set()
    async with asyncio.timeout(10):
        while len(ended) < 8 - len(fenced):
            assert 3 == await asyncio.to_thread(bench.run, bench.sweep)
            ended = {each for each in reservations if stored(queues, each)["status"] == "cancelled"}
    bench.close()
    assert set(reservations) - fenced == ended


async def test_a_worker_says_once_that_the_operator_has_fenced(ledger, database, redis, work, caplog):
    bench = Workbench(work)
    bench.open()
    await asyncio.to_thread(bench.run, bench.sweep)
    await fence(database, redis, [0, 1], "a move")
    for _ in range(2):
        assert 2 == await asyncio.to_thread(bench.run, bench.sweep)
    bench.close()
    (said,) = caplog.messages
    assert said.startswith("shards 0, 1 refuse: Fenced by the operator: a move.")


async def test_cron_and_one_worker_sweep_by_themselves(ledger, queues, work, processes):
    reservation = await hold(ledger, "acc-1")
    processes(CRON, work.queue_url)
    processes(WORKER, argument(work))
    await eventually(lambda: stored(queues, reservation)["status"] == "cancelled")
