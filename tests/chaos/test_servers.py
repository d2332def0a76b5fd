"""I9 and I13: a server that is another one, or empty, or says no, is not served and nothing is guessed."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.backing import BackingUnavailable, NotAdmitted, Terms
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import InternalError, LedgerFenced, LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct, Grant
from app.ledger.shards import shard_of
from tests.chaos.proxy import Proxy
from tests.engine import Streams, engine
from tests.lua.dump import dump
from tests.lua.invariants import check_keys


class Admitting(Streams):
    """Admits whatever server there is under the next number, as PostgreSQL would, unless told otherwise."""

    def __init__(self, redis: Redis, shards: int, server: str) -> None:
        super().__init__(redis, shards, server)
        self.admissions = 0
        self.refusal: Exception | None = None
        self.write = True

    async def admit(self) -> Terms:
        if self.refusal is not None:
            raise self.refusal
        self.admissions += 1
        if not await self._redis.exists(keys.meta(0)):
            raise NotAdmitted("this Redis is empty")
        server = (await self._redis.info("replication"))["master_replid"]
        if self.admissions > 1 and self.write:
            numbers = [number + 1 for number in self.terms.incarnations]
            self.terms = Terms(self.terms.ledger, server, numbers, {})
            for shard, number in enumerate(numbers):
                meta: dict[str | bytes, str | int] = {"incarnation": number, "server": server}
                await self._redis.hset(keys.meta(shard), mapping=meta)
        return self.terms


class Running:
    """A ledger of its own on a server, with 100 credits for ana."""

    def __init__(self, ledger: Ledger, journal: Admitting) -> None:
        self.ledger = ledger
        self.journal = journal

    @classmethod
    async def on(cls, client: Redis, aside: Redis, limits: Limits) -> "Running":
        journal = Admitting(aside, 4, (await aside.info("replication"))["master_replid"])
        await journal.found()
        ledger = Ledger(client, journal, limits)
        await ledger.start()
        await ledger.grant(Grant(account="ana", amount=100))
        return cls(ledger, journal)

    async def deduct(self, amount: int = 5) -> int:
        return (await self.ledger.deduct(Deduct(account="ana", amount=amount))).account.available


@pytest.fixture
async def running(proxy, real_client):
    """Behind the wire; the journal has another connection."""
    async with connect(proxy.url, answer_seconds=0.2) as client:
        running = await Running.on(client, real_client, Limits(request_seconds=1.0))
        yield running
        await running.ledger.stop()


@pytest.fixture
async def real_client(redis_url):
    async with connect(redis_url) as client:
        yield client


async def become_another(redis: Redis) -> None:
    """The data stays, `master_replid` changes: what a demotion and promotion leaves."""
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    await redis.execute_command("REPLICAOF", "NO", "ONE")


async def test_another_server_is_admitted_before_it_is_served(running, real_client):
    await become_another(real_client)
    assert 95 == await running.deduct()
    assert 2 == running.journal.admissions
    entries = [each.entry for shard in range(4) for each in await running.journal.entries(shard)]
    assert [1, 2] == [each.incarnation for each in entries]
    await check_keys(real_client)


async def test_a_call_of_unknown_outcome_is_never_repeated_under_another_incarnation(
    proxy, running, real_client
):
    """It may have run, and the lane that would say so may be gone with what the server has lost."""
    proxy.keep_calls(1)
    asked = asyncio.create_task(running.deduct())
    await proxy.until_kept(1)
    await become_another(real_client)
    with pytest.raises(LedgerUnavailable, match="lost with the server"):
        await asked
    proxy.deliver_kept()
    await proxy.until_answers(3)
    assert 100 == (await running.ledger.balance("ana")).account.available
    assert 95 == await running.deduct()
    await check_keys(real_client)


async def test_a_call_of_unknown_outcome_is_not_repeated_when_somebody_else_has_admitted(proxy, running):
    proxy.lose_answers(1, cut=False)
    asked = asyncio.create_task(running.deduct())
    await proxy.until_lost(1)
    terms = running.ledger.terms
    running.ledger.adopt(Terms(terms.ledger, terms.server, [9] * 4, {}))
    with pytest.raises(LedgerUnavailable):
        await asked
    running.ledger.adopt(terms)
    assert 95 == (await running.ledger.balance("ana")).account.available


async def test_a_server_that_lost_its_data_under_a_living_client_is_not_served(running, real_client):
    await real_client.flushall()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"empty|no meta"):
            await running.deduct()
    assert {} == await dump(real_client)


async def test_a_server_that_was_restarted_without_its_data_is_not_served(own_valkey):
    async with connect(own_valkey.url) as client, connect(own_valkey.url) as aside:
        running = await Running.on(client, aside, Limits(request_seconds=2.0))
        for file in sorted(own_valkey.folder().rglob("*.aof*")):
            file.unlink()
        own_valkey.restart()
        with pytest.raises(LedgerUnavailable):
            await running.deduct()
        assert {} == await dump(aside)
        await running.ledger.stop()


async def test_a_server_that_was_restarted_with_its_data_is_admitted_again_and_goes_on(own_valkey):
    async with connect(own_valkey.url) as client, connect(own_valkey.url) as aside:
        running = await Running.on(client, aside, Limits(request_seconds=2.0))
        own_valkey.restart()
        answers = [await asyncio.gather(running.deduct(), return_exceptions=True) for _ in range(2)]
        assert [2] * 4 == running.journal.terms.incarnations
        left = (await running.ledger.balance("ana")).account.available
        assert 100 - 5 * sum(isinstance(each[0], int) for each in answers) == left
        await check_keys(aside)
        await running.ledger.stop()


@pytest.mark.parametrize(
    "refusal", [NotAdmitted("somebody else's"), BackingUnavailable("PostgreSQL is away")]
)
async def test_what_cannot_be_admitted_is_unavailable_and_says_why(running, real_client, refusal):
    await become_another(real_client)
    running.journal.refusal = refusal
    with pytest.raises(LedgerUnavailable, match=str(refusal)):
        await running.deduct()
    assert (None, str(refusal)) == (running.ledger.terms, running.ledger.why_not)
    running.journal.refusal = None
    while running.ledger.terms is None:
        await asyncio.gather(running.deduct(), return_exceptions=True)
    assert (await running.ledger.balance("ana")).account.available < 100


async def test_terms_that_are_never_right_end_with_the_requests_time(proxy, running, real_client):
    """PostgreSQL says one number and Redis another: that ends, and is not asked as fast as it can be."""
    await become_another(real_client)
    running.journal.write = False
    before = proxy.calls
    with pytest.raises(LedgerUnavailable):
        await running.deduct()
    assert proxy.calls - before < 50


async def test_many_who_come_before_the_first_admission_ask_for_it_once(proxy, real_client):
    journal = Admitting(real_client, 4, (await real_client.info("replication"))["master_replid"])
    await journal.found()
    async with connect(proxy.url) as client:
        ledger = Ledger(client, journal)
        await ledger.start()
        await asyncio.gather(*(ledger.grant(Grant(account="ana", amount=1)) for _ in range(50)))
        assert 1 == journal.admissions
        await ledger.stop()


async def test_a_shard_that_postgres_has_fenced_refuses_without_asking_redis(running):
    terms = running.ledger.terms
    running.ledger.adopt(
        Terms(terms.ledger, terms.server, terms.incarnations, {shard_of("ana", 4): "forked"})
    )
    with pytest.raises(LedgerFenced, match="forked"):
        await running.deduct()
    running.ledger.adopt(terms)
    assert 95 == await running.deduct()


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
async def test_a_server_that_refuses_writes_is_unavailable_and_asked_once(own_valkey, setting):
    async with Proxy(own_valkey.url) as proxy, connect(proxy.url) as client, connect(own_valkey.url) as aside:
        running = await Running.on(client, aside, Limits())
        await aside.config_set(setting, "1")
        before = proxy.calls
        for ask in (running.deduct(), running.ledger.balance("ana")):
            with pytest.raises(LedgerUnavailable):
                await ask
        assert 2 == proxy.calls - before
        await aside.config_set(setting, "0")
        assert 95 == await running.deduct()
        await running.ledger.stop()


async def test_a_call_that_fails_as_a_whole_is_split_and_costs_those_alone_who_made_it_fail(redis):
    async with engine(redis) as (ledger, _):
        accounts = [f"a{i}" for i in range(40)]
        await asyncio.gather(*(ledger.grant(Grant(account=each, amount=10)) for each in accounts))
        bad = shard_of("a0", 4)
        await redis.delete(keys.due(bad))
        await redis.set(keys.due(bad), "planted")
        answers = await asyncio.gather(
            *(ledger.deduct(Deduct(account=each, amount=1)) for each in accounts), return_exceptions=True
        )
        failed = {
            each for each, answer in zip(accounts, answers, strict=True) if isinstance(answer, InternalError)
        }
        assert {each for each in accounts if shard_of(each, 4) == bad} == failed
        for each in set(accounts) - failed:
            assert 9 == (await ledger.balance(each)).account.available


async def test_a_server_that_is_busy_with_somebody_elses_script_is_waited_for(own_valkey):
    """BUSY is definite: nothing ran, so the same call is sent again and charges once."""
    async with (
        Proxy(own_valkey.url) as proxy,
        connect(proxy.url) as client,
        connect(own_valkey.url, answer_seconds=60) as aside,
        connect(own_valkey.url, answer_seconds=60) as other,
    ):
        running = await Running.on(client, aside, Limits())
        await aside.config_set("busy-reply-threshold", "1")
        stuck = asyncio.create_task(other.eval("while true do end", 0))
        before = proxy.calls
        asked = asyncio.create_task(running.deduct())
        await proxy.until_calls(before + 2)
        assert b"-BUSY" in proxy.answers[-1] or b"-BUSY" in proxy.answers[-2]
        await aside.execute_command("SCRIPT", "KILL")
        with pytest.raises(ResponseError, match="killed"):
            await stuck
        assert 95 == await asked
        await check_keys(aside)
        await running.ledger.stop()


async def test_a_wire_that_is_cut_before_the_request_has_arrived_charges_once(proxy, running, real_client):
    proxy.hold_back()
    asked = asyncio.create_task(running.deduct())
    await asyncio.sleep(0)
    await proxy.go_down()
    proxy.let_through()
    await proxy.come_up()
    assert 95 == await asked
    await check_keys(real_client)


async def test_opening_an_account_does_not_change_what_the_caller_asked(running):
    """Asked again, it must not open an account that Redis has lost meanwhile."""
    asked = Grant(account="new", amount=1)
    await running.ledger.grant(asked)
    assert not asked.open
