"""What an account had: its balance at a moment, and its statement."""

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from persistence import past
from tests.http.refused import is_invalid
from tests.http.steps import JOURNALED, do, grant, reserve, setting

BALANCE = "/api/credits/balance"
ALICE = {"accountId": "alice"}
EPOCH = "1970-01-01T00:00:00Z"


@pytest.fixture
async def lived(client, journal):
    """Balances of alice, each as it was shown right after the entry of its version."""
    seen = []

    async def see():
        seen.append((await client.get(BALANCE, params=ALICE)).json())
        await asyncio.sleep(0.002)  # the next entry is of another millisecond

    await grant(client, amount=100, bucket="plan", priority=10)
    await see()
    await grant(client, amount=50, expiresAt="2100-01-01T00:00:00Z")
    await see()
    held = (await reserve(client, amount=120))["reservation"]["id"]
    await see()
    await setting(client, overdraftLimit=40, lowBalance=5)
    await see()
    await do(client, "confirm", reservationId=held, amount=60)
    await see()
    await do(client, "deduct", accountId="alice", amount=110)
    await see()
    await setting(client, status="frozen")
    await see()
    return seen


async def statement(client, account="alice", **query):
    answer = await client.get(
        f"/api/credits/accounts/{account}/statement",
        params={{"since": "from", "until": "to"}[name]: value for name, value in query.items()},
    )
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def times(client):
    """The times of alice's entries, oldest first."""
    return [each["at"] for each in (await statement(client))["entries"]]


async def test_a_balance_at_the_time_of_each_entry_is_the_one_that_was_shown_then(client, lived):
    for at, seen in zip(await times(client), lived, strict=True):
        answer = await client.get(BALANCE, params=ALICE | {"at": at})
        assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
        assert seen == answer.json()


async def test_before_the_first_entry_there_was_nothing_and_version_0(client, lived):
    answer = await client.get(BALANCE, params=ALICE | {"at": "2020-02-02T02:02:02+02:00"})
    assert {
        "accountId": "alice", "available": 0, "held": 0, "version": 0, "overdraftLimit": 0,
        "status": "active", "buckets": [],
    } == answer.json()  # fmt: skip


async def test_any_offset_names_the_same_moment(client, lived):
    at = datetime.fromisoformat((await times(client))[3])
    for hours in (-9, 0, 5.5):
        named = at.astimezone(timezone(timedelta(hours=hours))).isoformat()
        assert lived[3] == (await client.get(BALANCE, params=ALICE | {"at": named})).json(), named


async def test_a_moment_that_is_none_is_refused_and_so_is_the_future(client, lived):
    for at in ("tomorrow", "2020-01-01", "2020-01-01T00:00:00", "5", ""):
        assert is_invalid(await client.get(BALANCE, params=ALICE | {"at": at})), at
    for at in (
        "2100-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999-14:00",
        "9999-12-31T23:59:59.999999+14:00",
    ):
        answer = await client.get(BALANCE, params=ALICE | {"at": at})
        assert is_invalid(answer)
        assert "at" == answer.json()["field"]
    assert is_invalid(await client.get(BALANCE, params=ALICE | {"at": "0001-01-01T00:00:00+14:00"}))
    ancient = await client.get(BALANCE, params=ALICE | {"at": "0001-01-01T00:00:00Z"})
    assert 0 == ancient.json()["version"]


async def test_reservations_are_shown_as_they_are_now_only(client, lived):
    assert is_invalid(await client.get(BALANCE, params=ALICE | {"at": EPOCH, "include": "reservations"}))


async def test_who_was_never_there_had_nothing_to_have(client, lived):
    for path in (f"{BALANCE}?accountId=nobody&at={EPOCH}", "/api/credits/accounts/nobody/statement"):
        answer = await client.get(path)
        assert (404, "account_not_found") == (answer.status_code, answer.json()["code"])


async def test_a_key_of_one_account_sees_its_own_past_only(client, client_of, lived):
    await client.post("/api/credits/grant", json={"accountId": "bob", "amount": 1}, headers=JOURNALED)
    alice = await client_of("read", account="alice")
    at = (await times(client))[2]
    assert lived[2] == (await alice.get(BALANCE, params={"at": at})).json()
    period = {"since": EPOCH, "until": "2100-01-01T00:00:00Z"}
    assert await statement(client, **period) == await statement(alice, **period)
    for path in (f"{BALANCE}?accountId=bob&at={EPOCH}", "/api/credits/accounts/bob/statement"):
        for whose in (path, path.replace("bob", "nobody")):
            answer = await alice.get(whose)
            assert (403, "forbidden") == (answer.status_code, answer.json()["code"])


async def test_a_journal_that_is_behind_is_not_guessed_at(client, monkeypatch):
    monkeypatch.setattr(past, "BEHIND_SECONDS", 0.1)
    at = (await grant(client))["transaction"]["at"]
    for path in (f"{BALANCE}?accountId=alice&at={at}", "/api/credits/accounts/alice/statement"):
        answer = await client.get(path)
        assert (503, "journal_backlogged") == (answer.status_code, answer.json()["code"])
        assert "retry-after" in answer.headers


async def test_a_statement_opens_adds_up_and_closes(client, lived):
    whole = await statement(client)
    assert {"available": 0, "held": 0, "version": 0} == whole["opening"]
    assert {name: lived[-1][name] for name in ("available", "held", "version")} == whole["closing"]
    assert list(range(1, 8)) == [each["version"] for each in whole["entries"]]
    shown = (await client.get("/api/credits/transactions", params=ALICE)).json()["data"]
    assert shown[::-1] == whole["entries"]
    at = [each["at"] for each in whole["entries"]]
    part = await statement(client, since=at[2], until=at[5])
    assert (at[2], at[5]) == (part["from"], part["to"])
    assert [3, 4, 5] == [each["version"] for each in part["entries"]]
    assert {name: lived[1][name] for name in ("available", "held", "version")} == part["opening"]
    assert {name: lived[4][name] for name in ("available", "held", "version")} == part["closing"]
    for entry, seen in zip(part["entries"], lived[2:], strict=False):
        assert (seen["available"], seen["held"]) == tuple(entry["balance"].values())


async def test_a_statement_is_of_the_last_thirty_days_unless_it_is_said(client, lived):
    shown = await statement(client)
    since, until = (datetime.fromisoformat(shown[name]) for name in ("from", "to"))
    assert timedelta(days=30) == until - since
    assert abs(datetime.now(until.tzinfo) - until) < timedelta(minutes=1)
    until = await statement(client, until="2020-03-31T00:00:00+02:00")
    assert ("2020-02-29T22:00:00.000Z", "2020-03-30T22:00:00.000Z") == (until["from"], until["to"])
    since = await statement(client, since="2020-03-31T00:00:00Z")
    assert 7 == len(since["entries"])


async def test_the_bounds_of_a_statement_are_whole_milliseconds_as_its_entries_are(client, lived):
    at = (await times(client))[2]
    later = at.replace("Z", "001Z")
    assert 4 == (await statement(client, since=later))["entries"][0]["version"]
    assert 3 == (await statement(client, until=later))["entries"][-1]["version"]
    assert (await statement(client, since=later))["from"] > at


async def test_a_statement_of_the_future_ends_with_what_is_there(client, lived):
    assert (
        lived[-1]["version"] == (await statement(client, until="9999-12-31T23:59:59Z"))["closing"]["version"]
    )


async def test_a_period_that_is_none_is_refused(client, lived):
    path = "/api/credits/accounts/alice/statement"
    for query in (
        "from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z",
        "from=9999-01-01T00:00:00Z",
        "to=0001-01-01T00:00:00Z",
        "to=9999-12-31T23:59:59.999999Z",
        "from=0001-01-01T00:00:00%2B14:00",
        "to=9999-12-31T23:59:59-14:00",
        "from=yesterday",
        "since=2020-01-01T00:00:00Z",
        "limit=5",
    ):
        assert is_invalid(await client.get(f"{path}?{query}")), query
    assert is_invalid(await client.get("/api/credits/accounts/al%20ice/statement"))
    assert is_invalid(await client.get("/api/credits/accounts/alice%0A/statement"))
    early = await statement(client, since="0001-01-01T00:00:00Z", until="0001-01-01T00:00:00.001Z")
    assert ("0001-01-01T00:00:00.000Z", []) == (early["from"], early["entries"])
