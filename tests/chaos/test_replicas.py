"""`LASTRO_ACK=replicated=N`: an answer is given once N replicas have it, and nothing else waits for that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from app.embedded import Valkey
from app.ledger import keys, scripts
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import BatchFailed, InsufficientCredits, LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from app.ledger.receipts import Receipt
from app.ledger.replicas import LANE_MS, Replicas
from tests.chaos.proxy import Proxy
from tests.conftest import PASSWORD
from tests.engine import Streams
from tests.folders import reachable_folder
from tests.lua.invariants import check_keys
from tests.replicating import Following, following


@pytest.fixture(scope="module")
def pair():
    """A primary and a replica that all tests of this file share."""
    with reachable_folder() as folder:
        primary = Valkey(folder / "primary", folder / "primary.log", password=PASSWORD, appendonly="no")
        primary.start()
        try:
            with following(primary, folder, PASSWORD) as pair:
                yield pair
        finally:
            primary.kill()


@pytest.fixture
def servers(pair):
    pair.be_in_step()
    return pair


class Running:
    """A ledger that waits for replicas; `redis` looks at the primary beside it."""

    def __init__(self, ledger: Ledger, replicas: Replicas, journal: Streams, redis: Redis) -> None:
        self.ledger = ledger
        self.replicas = replicas
        self.journal = journal
        self.redis = redis

    async def deduct(self, amount: int = 1, key: str | None = None) -> Receipt:
        asked = Deduct(account="ana", amount=amount, key=key, fingerprint="same" if key else None)
        return await self.ledger.deduct(asked)

    async def balance(self) -> int:
        return (await self.ledger.balance("ana")).account.available


@asynccontextmanager
async def replicated(
    url: str, aside: str | None = None, *, count: int = 1, seconds: float = 5.0, **limits: int
) -> AsyncIterator[Running]:
    """With 100 credits for ana. `aside`: where the waiting happens, when that is another way."""
    async with connect(url) as client, connect(aside or url) as waiting, connect(aside or url) as redis:
        journal = Streams(redis, 4, (await redis.info("replication"))["master_replid"])
        await journal.found()
        replicas = Replicas(waiting, count)
        ledger = Ledger(client, journal, Limits(request_seconds=seconds, **limits), replicas=replicas)
        await ledger.start()
        await ledger.grant(Grant(account="ana", amount=100))
        try:
            yield Running(ledger, replicas, journal, redis)
        finally:
            await ledger.stop()


async def held(running: Running, count: int = 1) -> None:
    """Return once so many answers are held back."""
    async with asyncio.timeout(10):
        while running.replicas.waiting < count:  # noqa: ASYNC110 - nothing tells when an answer is not given
            await asyncio.sleep(0.005)


async def test_an_answer_waits_for_a_replica_and_the_next_calls_do_not(servers: Following):
    async with replicated(servers.primary.url) as running:
        servers.halt(servers.replicas[0])
        asked = [asyncio.create_task(running.deduct())]
        await held(running)
        asked += [asyncio.create_task(running.deduct()) for _ in range(5)]
        await held(running, 6)
        assert 94 == await running.balance(), "what is read is what Redis has"
        assert not any(each.done() for each in asked)
        servers.let_go_on(servers.replicas[0])
        receipts = await asyncio.gather(*asked)
        assert [*range(2, 8)] == [each.entry.version for each in receipts]
        await check_keys(running.redis)


async def test_too_few_replicas_in_time_are_said_and_a_repetition_by_key_waits_again(servers: Following):
    """A replay writes too: were it not so, WAIT would answer at once for what no replica has."""
    async with replicated(servers.primary.url, seconds=0.3) as running:
        servers.halt(servers.replicas[0])
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="too few replicas") as raised:
                await running.deduct(5, "k")
            assert "not_replicated" == raised.value.facts["cause"]
        servers.let_go_on(servers.replicas[0])
        receipt = await running.deduct(5, "k")
        assert (True, 95) == (receipt.replayed, receipt.account.available)
        await check_keys(running.redis)


@pytest.mark.parametrize("atomic", [False, True], ids=["each by itself", "all or none"])
async def test_a_batch_waits_for_a_replica_as_a_whole(servers: Following, atomic):
    async with replicated(servers.primary.url, seconds=0.5) as running:
        servers.halt(servers.replicas[0])
        asked = [Deduct(account="ana", amount=1, key=f"k{i}", fingerprint="same") for i in range(5)]
        batch = asyncio.create_task(running.ledger.batch(asked, atomic=atomic))
        await held(running, 5)
        assert not batch.done()
        servers.let_go_on(servers.replicas[0])
        assert [*range(2, 7)] == [each.entry.version for each in (await batch).results]
        servers.halt(servers.replicas[0])
        again = running.ledger.batch(asked, atomic=atomic)
        if atomic:
            with pytest.raises(LedgerUnavailable, match="too few replicas") as raised:
                await again
            errors = [raised.value]
        else:
            errors = (await again).results
        assert {"not_replicated"} == {each.facts["cause"] for each in errors}
        await check_keys(running.redis)


async def test_an_atomic_batch_that_fails_is_told_once_its_refusal_is_replicated(servers: Following):
    """It is remembered under its key."""
    async with replicated(servers.primary.url) as running:
        servers.halt(servers.replicas[0])
        asked = [Deduct(account="ana", amount=60, key=f"k{i}", fingerprint="same") for i in range(3)]
        batch = asyncio.create_task(running.ledger.batch(asked, atomic=True))
        await held(running, 1)
        assert 1 == running.replicas.waiting
        servers.let_go_on(servers.replicas[0])
        assert 1 == (await batch).failed
        assert [BatchFailed, InsufficientCredits, BatchFailed] == [
            type(each) for each in (await batch).results
        ]


async def test_a_replay_alone_is_waited_for(servers: Following):
    async with replicated(servers.primary.url, seconds=0.3) as running:
        await running.deduct(5, "k")
        servers.halt(servers.replicas[0])
        with pytest.raises(LedgerUnavailable, match="too few replicas"):
            await running.deduct(5, "k")


async def test_a_refusal_that_tells_of_what_was_done_waits_and_one_that_tells_nothing_does_not(
    servers: Following,
):
    async with replicated(servers.primary.url, seconds=0.3) as running:
        servers.halt(servers.replicas[0])
        with pytest.raises(LedgerUnavailable, match="too few replicas"):
            await running.deduct(1000)
        await running.redis.hset(keys.meta(3), "fence", "a test")
        answers = await asyncio.gather(
            *(running.ledger.deduct(Deduct(account=f"a{i}", amount=1)) for i in range(20)),
            return_exceptions=True,
        )
        assert {"LedgerFenced", "AccountNotFound"} == {type(each).__name__ for each in answers}
        servers.let_go_on(servers.replicas[0])
        with pytest.raises(InsufficientCredits):
            await running.deduct(1000)


async def test_an_answer_that_was_lost_and_repeated_from_its_lane_is_waited_for(servers: Following):
    """The lane's reply is given without a write."""
    async with (
        Proxy(servers.primary.url) as proxy,
        replicated(proxy.url, servers.primary.url, seconds=1.5) as running,
    ):
        servers.halt(servers.replicas[0])
        proxy.lose_answers(1)
        with pytest.raises(LedgerUnavailable, match="too few replicas"):
            await running.deduct(5, "k")
        servers.let_go_on(servers.replicas[0])
        assert (await running.deduct(5, "k")).replayed
        assert 95 == await running.balance()


async def test_more_replicas_than_there_are_never_acknowledge(servers: Following):
    async with connect(servers.primary.url) as client, connect(servers.primary.url) as waiting:
        journal = Streams(client, 4, (await client.info("replication"))["master_replid"])
        await journal.found()
        ledger = Ledger(client, journal, Limits(request_seconds=0.2), replicas=Replicas(waiting, 2))
        await ledger.start()
        with pytest.raises(LedgerUnavailable, match="too few replicas"):
            await ledger.grant(Grant(account="ana", amount=100))
        await ledger.stop()


async def test_those_who_stop_waiting_are_forgotten(servers: Following):
    async with replicated(servers.primary.url) as running:
        servers.halt(servers.replicas[0])
        asked = [asyncio.create_task(running.deduct()) for _ in range(4)]
        await held(running, 4)
        for each in asked[::2]:
            each.cancel()
        servers.let_go_on(servers.replicas[0])
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert ["CancelledError", "Receipt"] * 2 == [type(each).__name__ for each in answers]
        assert (96, 0) == (await running.balance(), running.replicas.waiting)


async def test_stopping_waits_for_the_replicas(servers: Following):
    async with replicated(servers.primary.url) as running:
        servers.halt(servers.replicas[0])
        asked = asyncio.create_task(running.deduct())
        await held(running)
        stopping = asyncio.create_task(running.ledger.stop())
        await asyncio.sleep(0)
        servers.let_go_on(servers.replicas[0])
        assert 99 == (await asked).account.available
        await stopping


async def test_stopping_tells_those_whom_no_replica_has_acknowledged(servers: Following):
    async with replicated(servers.primary.url, seconds=0.5) as running:
        servers.halt(servers.replicas[0])
        asked = [asyncio.create_task(running.deduct()) for _ in range(3)]
        await held(running, 3)
        async with asyncio.timeout(3):
            await running.ledger.stop()
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert ["not_replicated"] * 3 == [each.facts["cause"] for each in answers]


async def test_no_more_answers_are_held_than_may_wait(servers: Following):
    async with replicated(servers.primary.url, queue_max=10, batch_operations_max=5) as running:
        servers.halt(servers.replicas[0])
        asked = [asyncio.create_task(running.deduct()) for _ in range(10)]
        await held(running, 10)
        late = asyncio.create_task(running.deduct())
        for _ in range(20):
            await asyncio.sleep(0)
        sequence = sum([int(await running.redis.hget(keys.meta(s), "sequence")) for s in range(4)])
        assert (11, 10) == (sequence, running.replicas.waiting), "the eleventh deduct has not been sent"
        servers.let_go_on(servers.replicas[0])
        await asyncio.gather(*asked, late)


async def test_a_primary_that_was_demoted_and_promoted_acknowledges_nothing_of_before(servers: Following):
    """Its replica has all that it has; but what it had before may be gone, and offsets are of one history."""
    async with replicated(servers.primary.url) as running:
        servers.halt(servers.replicas[0])
        asked = asyncio.create_task(running.deduct())
        await held(running)
        await running.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await running.redis.execute_command("REPLICAOF", "NO", "ONE")
        servers.let_go_on(servers.replicas[0])
        with pytest.raises(LedgerUnavailable, match=r"server has changed") as raised:
            await asked
        assert "not_replicated" == raised.value.facts["cause"]


async def test_a_wire_that_breaks_while_replicas_are_waited_for_is_made_anew(servers: Following):
    async with Proxy(servers.primary.url) as proxy, replicated(servers.primary.url, proxy.url) as running:
        servers.halt(servers.replicas[0])
        asked = asyncio.create_task(running.deduct())
        await held(running)
        await proxy.go_down()
        await proxy.come_up()
        servers.let_go_on(servers.replicas[0])
        assert 99 == (await asked).account.available


def test_a_lane_lives_as_long_as_the_script_lets_it_live():
    assert f"local LANE_MS = '{LANE_MS}'" in scripts.load("apply").text
