"""Clean-up over HTTP: now, and by itself."""

import asyncio

import pytest
from litestar import Litestar

from persistence.cleaning.cleaning import PostgresCleaning
from tests.http.steps import CREDITS, do, find, is_refused
from tests.integration.ledgers import journal_all

NOW, BY_ITSELF = f"{CREDITS}/cleanup", f"{CREDITS}/auto-cleanup"


@pytest.fixture
def nothing_is_too_young(app: Litestar) -> PostgresCleaning:
    """Everything that has ended is old."""
    cleaning = app.state.parts.cleaning
    cleaning._days *= -1
    return cleaning


async def count(client):
    answer = await client.get(NOW, params={"action": "count"})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def status(client):
    answer = await client.get(BY_ITSELF, params={"action": "status"})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def change(client, action, **more):
    answer = await client.post(BY_ITSELF, json={"action": action, **more})
    assert 200 == answer.status_code, answer.text
    return answer.json()


@pytest.fixture
async def held(client, redis):
    """A reservation that is due and that nobody has touched since, and one that is in time."""
    await do(client, "grant", accountId="alice", amount=100)
    due, kept = [
        (await do(client, "reserve", accountId="alice", amount=5, ttlSeconds=seconds))["reservation"]["id"]
        for seconds in (1, 600)
    ]
    ends = (await redis.time())[0] + 2
    while (await redis.time())[0] < ends:  # noqa: ASYNC110 - the server's clock tells nobody
        await asyncio.sleep(0.02)
    return due, kept


async def test_what_is_due_is_counted_and_ended_and_what_is_in_time_is_confirmed(client, held):
    due, kept = held
    assert {"expired": 1, "old": 0} == await count(client) == await count(client)
    done = (await client.post(NOW)).json()
    assert (1, 0, {"expired", "old", "durationMs"}) == (done["expired"], done["old"], set(done))
    assert {"expired": 0, "old": 0} == await count(client)
    assert "expired" == (await find(client, due))["cancelCause"]
    await is_refused(client, "confirm", 410, "reservation_expired", reservationId=due)
    await do(client, "confirm", reservationId=kept)


async def test_old_ones_go_unless_only_what_is_due_is_wanted(
    client, held, nothing_is_too_young, settings, database
):
    _, kept = held
    await do(client, "confirm", reservationId=kept)
    await journal_all(settings.database_url, settings.redis_url)
    assert 2 == (await count(client))["old"]
    done = (await client.post(NOW, json={"only": "expired"})).json()
    assert 0 == done["old"]
    assert 2 == (await client.post(NOW, json={})).json()["old"]
    assert [] == (await client.get(f"{CREDITS}/reservations")).json()["data"]
    by, error = await database.fetchrow("SELECT by, error FROM cleanups ORDER BY id DESC LIMIT 1")
    assert ("key:all", None) == (by, error)


async def test_of_two_at_once_the_second_is_skipped(client, app):
    there, on = asyncio.Event(), asyncio.Event()

    async def barrier(step):
        there.set()
        await on.wait()

    app.state.parts.cleaning._barrier = barrier
    first = asyncio.create_task(client.post(NOW))
    await there.wait()
    assert {"skipped": True} == (await client.post(NOW)).json()
    assert (await status(client))["running"]
    assert (await change(client, "force"))["running"]
    on.set()
    assert {"expired", "old", "durationMs"} == set((await first).json())
    assert not (await status(client))["running"]


async def test_how_it_stands_by_itself_is_told_from_the_beginning_on(client):
    never = {"lastRunAt": None, "lastResult": None, "nextRunInSeconds": 0}
    state = {"enabled": True, "running": False, "intervalSeconds": 600}
    assert state | never == await status(client)
    cleaned = (await client.post(NOW)).json()
    standing = await status(client)
    assert (cleaned["expired"], cleaned["old"]) == tuple(
        standing["lastResult"][each] for each in ("expired", "old")
    )
    assert 595 < standing["nextRunInSeconds"] <= 600
    assert standing["lastRunAt"].endswith("Z")


async def test_it_is_stopped_started_and_forced(client):
    stopped = await change(client, "stop")
    assert (False, None) == (stopped["enabled"], stopped["nextRunInSeconds"])
    forced = await change(client, "force", intervalSeconds=30)
    assert (False, 30) == (forced["enabled"], forced["intervalSeconds"])
    assert forced["lastRunAt"] is not None
    started = await change(client, "start", intervalSeconds=300)
    assert (True, 300) == (started["enabled"], started["intervalSeconds"])
    assert 600 == (await change(client, "start"))["intervalSeconds"]
    assert started["lastRunAt"] == forced["lastRunAt"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "action"),
        ({"action": "pause"}, "action"),
        ({"action": "start", "intervalSeconds": 299}, "300 at least"),
        ({"action": "force", "intervalSeconds": 4}, "intervalSeconds"),
        ({"action": "force", "intervalSeconds": 604_801}, "intervalSeconds"),
        ({"action": "force", "intervalSeconds": 60.5}, "intervalSeconds"),
        ({"action": "stop", "intervalSeconds": 600}, "not with `stop`"),
        ({"action": "start", "interval": 600}, "interval"),
    ],
)
async def test_what_cannot_be_meant_changes_nothing(client, body, says):
    before = await status(client)
    answer = await client.post(BY_ITSELF, json=body)
    assert (400, "invalid_request") == (answer.status_code, answer.json()["code"])
    assert says in answer.json()["detail"]
    assert before == await status(client)


async def test_other_questions_are_refused(client):
    for path, query in (
        (NOW, {}),
        (NOW, {"action": "status"}),
        (BY_ITSELF, {}),
        (BY_ITSELF, {"action": "count"}),
    ):
        assert 400 == (await client.get(path, params=query)).status_code
    assert 400 == (await client.post(NOW, json={"only": "old"})).status_code


async def test_only_operators_of_all_accounts_may_ask(client_of):
    for scopes, account in ((("read", "spend", "grant"), None), (("operate",), "alice")):
        async with await client_of(*scopes, account=account) as other:
            answers = [
                await other.post(NOW),
                await other.get(NOW, params={"action": "count"}),
                await other.post(BY_ITSELF, json={"action": "stop"}),
                await other.get(BY_ITSELF, params={"action": "status"}),
            ]
            assert {403} == {each.status_code for each in answers}


async def test_without_postgresql_it_is_503(client, app):
    await app.state.parts.cleaning._pool.close()
    for answer in (await client.post(NOW), await client.get(NOW, params={"action": "count"})):
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
        assert answer.headers["retry-after"]
