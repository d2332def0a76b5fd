"""Limits of requests: counted exactly over all processes, told as the draft has it."""

import asyncio
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor

import pytest

from app.http.codes import TABLE
from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.errors import LedgerUnavailable, Overloaded
from app.ledger.scripts import Script, load
from app.limits import COUNTS_MAX, SECOND, Limiter, Quota
from app.settings import Settings
from persistence.birth import give_birth
from tests.http.conftest import SHARDS
from tests.http.steps import CREDITS, ask, deduct, do, op

CLOCK = "lastro-test:clock"
NOW_US = 1_700_000_000_000_000


def at_the_tests_time() -> Script:
    """The script, by a clock that stands still until the test moves it."""
    sound = load("limit")
    text = sound.text.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, -1)")
    assert text != sound.text
    return Script("limit", text, "0" * 40)


async def set_clock(redis, us: int) -> None:
    await redis.delete(CLOCK)
    await redis.rpush(CLOCK, us // SECOND, us % SECOND)


@pytest.fixture
async def limiter(redis):
    await set_clock(redis, NOW_US)
    limiter = Limiter(redis, key_per_second=10, account_per_second=3)
    limiter._script = at_the_tests_time()
    yield limiter
    await limiter.stop()


async def passed(limiter: Limiter, quota: Quota | None, name: str, times: int) -> int:
    """How many of so many requests go on."""
    assert quota
    lefts = await asyncio.gather(*(limiter.count(quota, [name]) for _ in range(times)))
    return sum(left.wait_us == 0 for (left,) in lefts)


async def test_as_many_as_a_second_has_go_on_at_once_and_then_one_at_each_interval(redis, limiter):
    assert 10 == await passed(limiter, limiter.key, "key:shop", 25)
    for number in range(1, 5):
        await set_clock(redis, NOW_US + number * 100_000 - 1)
        assert 0 == await passed(limiter, limiter.key, "key:shop", 3)
        await set_clock(redis, NOW_US + number * 100_000)
        assert 1 == await passed(limiter, limiter.key, "key:shop", 3)
    await set_clock(redis, NOW_US + 60 * SECOND)
    assert 10 == await passed(limiter, limiter.key, "key:shop", 25)


async def test_names_and_kinds_are_counted_apart(limiter):
    assert [10, 10, 3] == [
        await passed(limiter, limiter.key, "key:a", 12),
        await passed(limiter, limiter.key, "user:a", 12),
        await passed(limiter, limiter.account, "key:a", 12),
    ]


async def test_it_is_told_how_many_are_left_and_when_to_come_again(redis, limiter):
    lefts = [(await limiter.count(limiter.account, ["alice"]))[0] for _ in range(5)]
    assert [2, 1, 0, 0, 0] == [left.requests for left in lefts]
    third = Quota("account", 3).interval_us
    assert [0, 0, 0, third, third] == [left.wait_us for left in lefts]
    assert [1] * 5 == [left.whole_in_seconds for left in lefts]
    await set_clock(redis, NOW_US + third)
    assert [0] == [left.wait_us for left in await limiter.count(limiter.account, ["alice"])]


async def test_many_names_in_one_request_are_counted_in_their_order(limiter):
    lefts = await limiter.count(limiter.account, ["a", "b", "a", "a", "a", "b"])
    assert [True, True, True, True, False, True] == [left.wait_us == 0 for left in lefts]


async def test_what_waits_travels_together_and_only_what_is_counted_is_written(redis, limiter):
    before = (await redis.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
    assert 10 == await passed(limiter, limiter.key, "key:shop", 200)
    after = (await redis.info("commandstats"))["cmdstat_eval"]["calls"]
    assert after - before <= 3
    names = {name.decode() async for name in redis.scan_iter("lastro-limit*")}
    assert {keys.limit("key", "key:shop")} == names
    assert 0 < await redis.pttl(names.pop()) <= 1000


async def test_a_clock_that_was_set_back_makes_nobody_wait_for_it(redis, limiter):
    assert 10 == await passed(limiter, limiter.key, "key:shop", 10)
    await set_clock(redis, NOW_US - 3600 * SECOND)
    (left,) = await limiter.count(limiter.key, ["key:shop"])
    assert left.wait_us <= SECOND


def in_a_process_of_its_own(url: str, times: int) -> int:
    async def run() -> int:
        redis = connect(url)
        limiter = Limiter(redis, key_per_second=37)
        limiter._script = at_the_tests_time()
        try:
            return await passed(limiter, limiter.key, "key:shop", times)
        finally:
            await limiter.stop()
            await redis.aclose()

    return asyncio.run(run())


async def test_processes_that_count_at_once_let_exactly_as_many_pass_as_may(redis, redis_url):
    await set_clock(redis, NOW_US)
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as processes:
        loop = asyncio.get_running_loop()
        done = [loop.run_in_executor(processes, in_a_process_of_its_own, redis_url, 100) for _ in range(3)]
        assert 37 == sum(await asyncio.gather(*done))


async def test_a_limit_that_cannot_be_asked_about_lets_nothing_pass():
    redis = connect("redis://127.0.0.1:1")
    limiter = Limiter(redis, key_per_second=5)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await limiter.count(limiter.key, ["key:shop"])
    await limiter.stop()
    await redis.aclose()


async def test_those_who_wait_are_bounded(limiter, monkeypatch):
    monkeypatch.setattr("app.limits.WAITING_MAX", COUNTS_MAX)
    first = asyncio.create_task(limiter.count(limiter.key, ["key:a"] * COUNTS_MAX))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await limiter.count(limiter.key, ["key:b"])
    assert COUNTS_MAX == len(await first)
    assert await limiter.count(limiter.key, ["key:b"]), "and there is room again"


KEY, ACCOUNT = 8, 3


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    """As `conftest` has them, with limits."""
    await give_birth(database_url, redis_url, SHARDS)
    return Settings(
        redis_url=redis_url,
        database_url=database_url,
        shards=SHARDS,
        key_requests_per_second=KEY,
        account_requests_per_second=ACCOUNT,
    )


@pytest.fixture
async def still(app, redis):
    """The limits' clock stands still."""
    await set_clock(redis, NOW_US)
    app.state.parts.limiter._script = at_the_tests_time()


ITEM = r'"(?:key|account)"(?:;[a-z]+=(?:0|[1-9][0-9]*))+'
LIST = re.compile(f"{ITEM}(?:, {ITEM})*")
"""What these fields may be of RFC 9651: a list of strings with whole numbers as parameters."""


async def test_every_answer_tells_what_is_left(still, client):
    answer = await ask(client, "grant", accountId="alice", amount=1)
    assert '"key";q=8;w=1, "account";q=3;w=1' == answer.headers["ratelimit-policy"]
    assert '"key";r=7;t=1, "account";r=2;t=1' == answer.headers["ratelimit"]
    answer = await client.get(f"{CREDITS}/balance?accountId=alice")
    assert ('"key";q=8;w=1', '"key";r=6;t=1') == (
        answer.headers["ratelimit-policy"],
        answer.headers["ratelimit"],
    )
    wrong = await ask(client, "grant", accountId="alice")
    assert (400, '"key";r=5;t=1') == (wrong.status_code, wrong.headers["ratelimit"])
    for each in (answer, wrong):
        assert LIST.fullmatch(each.headers["ratelimit"])
        assert LIST.fullmatch(each.headers["ratelimit-policy"])


async def test_a_key_that_asks_too_often_is_told_when_to_come_again(still, client, client_of, redis):
    other = await client_of("read")
    answers = [await client.get(f"{CREDITS}/models") for _ in range(KEY + 2)]
    assert [200] * KEY + [429] * 2 == [answer.status_code for answer in answers]
    refused = answers[-1]
    assert ("rate_limited", "key", KEY) == tuple(refused.json()[name] for name in ("code", "what", "limit"))
    assert ("1", '"key";r=0;t=1') == (refused.headers["retry-after"], refused.headers["ratelimit"])
    assert 200 == (await other.get(f"{CREDITS}/models")).status_code, "others are not concerned"
    await set_clock(redis, NOW_US + SECOND)
    assert 200 == (await client.get(f"{CREDITS}/models")).status_code


async def test_who_is_nobody_or_asks_what_is_open_is_not_counted(still, stranger):
    for _ in range(KEY + 1):
        assert 401 == (await stranger.get(f"{CREDITS}/models")).status_code
        answer = await stranger.get("/health/live")
        assert (200, False) == (answer.status_code, "ratelimit" in answer.headers)


async def test_an_account_that_a_body_names_too_often_moves_nothing_more(still, client, client_of):
    await do(client, "grant", accountId="alice", amount=100)
    two = await client_of("spend")
    assert [201, 201] == [
        (await ask(each, "deduct", accountId="alice", amount=1)).status_code for each in (client, two)
    ]
    refused = await ask(two, "deduct", key="k", accountId="alice", amount=1)
    assert (429, "rate_limited", "account", ACCOUNT) == (
        refused.status_code,
        *(refused.json()[name] for name in ("code", "what", "limit")),
    )
    assert "1" == refused.headers["retry-after"]
    assert 404 == (await ask(two, "deduct", accountId="bob", amount=1)).status_code
    balance = await client.get(f"{CREDITS}/balance?accountId=alice")
    assert (200, 98) == (balance.status_code, balance.json()["available"])


async def test_what_was_refused_may_be_repeated_with_its_key(still, client, redis):
    await do(client, "grant", accountId="alice", amount=100)
    answers = [
        await ask(client, "deduct", key=f"k{number}", accountId="alice", amount=1) for number in range(3)
    ]
    assert [201, 201, 429] == [answer.status_code for answer in answers]
    await set_clock(redis, NOW_US + SECOND)
    again = await ask(client, "deduct", key="k2", accountId="alice", amount=1)
    assert (201, None) == (again.status_code, again.headers.get("idempotency-replayed"))


async def test_the_operations_of_a_batch_are_counted_one_by_one(still, client, redis):
    await do(client, "grant", accountId="alice", amount=100)
    await set_clock(redis, NOW_US + SECOND)
    operations = [deduct(1), deduct(1), op("grant", accountId="bob", amount=1), deduct(1), deduct(1)]
    answer = await ask(client, "batch", operations=operations)
    results = answer.json()["results"]
    assert [201, 201, 201, 201, 429] == [each["status"] for each in results]
    assert "rate_limited" == results[-1]["code"]
    assert '"key";r=7;t=1, "account";r=0;t=1' == answer.headers["ratelimit"]
    atomic = (await ask(client, "batch", atomic=True, operations=operations[:2])).json()
    assert (0, [429, 424]) == (atomic["failedIndex"], [each["status"] for each in atomic["results"]])


async def test_while_redis_is_away_limits_are_as_the_ledger_is(still, app, client):
    sound = app.state.parts.limiter
    nowhere = connect("redis://127.0.0.1:1")
    app.state.parts.limiter = Limiter(nowhere, key_per_second=5)
    answer = await client.get(f"{CREDITS}/models")
    assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
    assert "retry-after" in answer.headers
    app.state.parts.limiter = sound
    await nowhere.aclose()


def test_the_sentence_of_a_limit_has_a_status():
    assert 429 == TABLE["rate_limited"].status
