"""Monitoring over HTTP, and by real workers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from persistence.monitoring.following import Following
from tests.http.steps import grant

PATH = "/api/credits/monitoring"


@pytest.fixture
async def followed(app, database, redis):
    """Counts until every answer has all that happened so far."""
    following, monitoring = Following(database, redis), app.state.parts.monitoring

    async def follow() -> None:
        seconds, micros = await redis.time()
        then = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)
        while True:
            await following.turn()
            answers = [await monitoring.overview(), await monitoring.top_accounts("hour", 1)]
            if min(each.as_of for each in answers) >= then:
                return
            await asyncio.sleep(0.02)

    return follow


async def told(client, type_: str, **asked: object):
    answer = await client.get(PATH, params={"type": type_, **asked})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def job(client, account: str, *, held: int, spent: int, model: str) -> str:
    made = await client.post(
        "/api/credits/reserve", json={"accountId": account, "amount": held, "modelId": model}
    )
    name = made.json()["reservation"]["id"]
    done = await client.post("/api/credits/confirm", json={"reservationId": name, "amount": spent})
    assert 200 == done.status_code
    return name


async def test_what_happened_is_told_in_every_way_at_once(client, journal, followed):
    await grant(client, "alice")
    await grant(client, "bob")
    await job(client, "alice", held=40, spent=30, model="flux")
    await client.post("/api/credits/deduct", json={"accountId": "bob", "amount": 7, "modelId": "lip-sync"})
    await client.post("/api/credits/reserve", json={"accountId": "bob", "amount": 5, "modelId": "flux"})
    await followed()
    whole = await told(client, "dashboard", period="hour")
    overview = whole["overview"]
    assert {"total": 2, "withBalance": 2} == overview["accounts"]
    assert (158, 5, 163) == (overview["available"], overview["held"], overview["liability"])
    assert [{"bucket": "default", "available": 158, "held": 5, "liability": 163}] == overview["buckets"]
    assert {"pending": 1, "confirmed": 1, "cancelled": 0, "expired": 0} == overview["reservations"]
    assert {"count": 2, "credits": 200} == overview["transactions"]["granted"]
    assert {"count": 1, "credits": 30} == overview["transactions"]["confirmed"]
    assert ["flux", "lip-sync"] == [each["modelId"] for each in overview["models"]]
    series = whole["usage"]["series"]
    assert 24 == len(series)
    for name, sum_ in {"granted": 200, "deducted": 7, "confirmed": 30, "transactions": 6}.items():
        assert sum_ == sum(each[name] for each in series)
    assert 2 == sum(each["reservations"] for each in series) == max(each["accounts"] for each in series)
    assert 0 == whole["usage"]["previous"]["transactions"]
    assert [("alice", 30), ("bob", 7)] == [
        (each["accountId"], each["spent"]) for each in whole["topUsers"]["users"]
    ]
    flux = whole["models"]["models"][0]
    assert (3, 30, 40, 30, 0.75, 1.0) == tuple(
        flux[name]
        for name in ("transactions", "credits", "reserved", "captured", "captureRatio", "successRate")
    )
    assert whole["health"]["status"] in ("healthy", "warning", "critical")


async def test_every_answer_says_how_far_it_has_come(client, followed):
    await followed()
    for type_ in ("overview", "usage", "top-users", "models", "health", "dashboard"):
        answer = await told(client, type_)
        age = datetime.now(UTC) - datetime.fromisoformat(answer["asOf"])
        assert timedelta(0) <= age < timedelta(seconds=30)
        assert answer["lagSeconds"] is None or 0 <= answer["lagSeconds"] < 30


async def test_a_ledger_in_which_nothing_happened_shows_nothing_and_no_hole(client):
    overview = await told(client, "overview")
    assert ({"total": 0, "withBalance": 0}, 0, []) == (
        overview["accounts"],
        overview["liability"],
        overview["models"],
    )
    for period, points in (("hour", 24), ("day", 30), ("week", 12), ("month", 12)):
        usage = await told(client, "usage", period=period)
        assert points == len(usage["series"])
        assert {0} == {each["accounts"] + each["transactions"] for each in usage["series"]}
    assert [] == (await told(client, "top-users"))["users"]
    assert [] == (await told(client, "models"))["models"]


async def test_steps_begin_by_the_clocks_that_are_asked_for(client):
    asked = {"from": "2026-10-24T12:00:00Z", "to": "2026-10-26T12:00:00Z", "tz": "Europe/Berlin"}
    usage = await told(client, "usage", period="day", **asked)
    assert ["2026-10-23T22:00:00.000Z", "2026-10-24T22:00:00.000Z", "2026-10-25T23:00:00.000Z"] == [
        each["start"] for each in usage["series"]
    ]
    assert "2026-10-20T22:00:00.000Z" == usage["previous"]["start"]


REFUSED = [
    ({}, "type"),
    ({"type": "everything"}, "type"),
    ({"type": "usage", "period": "year"}, "period"),
    ({"type": "usage", "tz": "Mars/Base"}, "tz"),
    ({"type": "usage", "tz": "../../etc/passwd"}, "tz"),
    ({"type": "usage", "tz": "America"}, "tz"),
    ({"type": "usage", "tz": ""}, "tz"),
    ({"type": "usage", "tz": "x" * 65}, "tz"),
    ({"type": "usage", "from": "yesterday"}, "from"),
    ({"type": "usage", "from": "2026-01-02T00:00:00"}, "from"),
    ({"type": "usage", "from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, "from"),
    ({"type": "usage", "from": "9000-01-02T00:00:00Z"}, "from"),
    ({"type": "usage", "from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"}, "from"),
    ({"type": "usage", "period": "hour", "from": "2020-01-01T00:00:00Z"}, "from"),
    ({"type": "usage", "to": "0001-01-01T00:00:00Z"}, "from"),
    ({"type": "top-users", "limit": 0}, "limit"),
    ({"type": "top-users", "limit": 201}, "limit"),
    ({"type": "top-users", "limit": "ten"}, "limit"),
    ({"type": "overview", "tz": "Europe/Berlin"}, "tz"),
    ({"type": "models", "from": "2026-01-01T00:00:00Z"}, "from"),
    ({"type": "health", "period": "week"}, "period"),
    ({"type": "overview", "page": 2}, "page"),
]


async def test_what_cannot_be_asked_for_is_refused_by_its_name(client):
    for asked, field in REFUSED:
        answer = await client.get(PATH, params=asked)
        assert (400, field) == (answer.status_code, answer.json().get("field")), (asked, answer.text)


async def test_a_thousand_points_are_shown_and_one_more_is_not(client):
    until = datetime(2026, 11, 1, tzinfo=UTC)
    asked = {"type": "usage", "period": "hour", "to": until.isoformat()}
    thousand = until - timedelta(hours=1000)
    answer = await client.get(PATH, params={**asked, "from": thousand.isoformat()})
    assert 1000 == len(answer.json()["series"])
    more = thousand - timedelta(seconds=1)
    assert 400 == (await client.get(PATH, params={**asked, "from": more.isoformat()})).status_code


async def test_a_key_of_one_account_does_not_see_what_is_everybodys(client_of):
    async with await client_of("read", account="bob") as bob:
        answer = await bob.get(PATH, params={"type": "overview"})
    assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
