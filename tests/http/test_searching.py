"""Reservations and accounts, page by page, to whoever may see them."""

import asyncio

import pytest

from persistence.drain import drain
from tests.http.conftest import running
from tests.http.refused import is_invalid
from tests.http.serving import create_app
from tests.http.steps import JOURNALED, do, find, grant, reserve, setting
from tests.http.test_health import client_of as client_over
from tests.http.test_health import own  # noqa: F401 - a fixture

RESERVATIONS, ACCOUNTS = "/api/credits/reservations", "/api/credits/accounts"


@pytest.fixture
async def shop(client, journal):
    """Reservations of two accounts in all their states, journaled. Their names are the client's `held`."""
    for account in ("alice", "bob"):
        await grant(client, account)
    client.held = {
        "pending": await reserve(client, "alice", amount=1, modelId="flux", metadata={"a": "b"}, taskId="t"),
        "confirmed": await reserve(client, "bob", amount=2, modelId="flux"),
        "failed": await reserve(client, "alice", amount=3, resourceId="image-1"),
        "expired": await reserve(client, "alice", amount=4, ttlSeconds=1),
        "late": await reserve(client, "bob", amount=5, ttlSeconds=1, onExpired="charge"),
    }
    client.held = {name: each["reservation"]["id"] for name, each in client.held.items()}
    await do(client, "confirm", reservationId=client.held["confirmed"])
    await do(client, "cancel", reservationId=client.held["failed"], cause="failed", reason="no face")
    await until_expired(client, client.held["late"])
    await do(client, "confirm", reservationId=client.held["late"])
    await client.post("/api/credits/grant", json={"accountId": "alice", "amount": 1}, headers=JOURNALED)
    await client.post("/api/credits/grant", json={"accountId": "bob", "amount": 1}, headers=JOURNALED)
    return client


async def until_expired(client, reservation):
    """By Redis' own time: ids are in the order of the time at which they were made."""
    async with asyncio.timeout(10):
        while (await find(client, reservation))["status"] == "pending":  # noqa: ASYNC110 - what it polls is polled
            await asyncio.sleep(0.01)


async def listed(client, **query):
    """Names of the reservations of all pages of a filter, two a page."""
    names, cursor = [], None
    while True:
        page = (
            await client.get(
                RESERVATIONS, params=query | {"limit": 2} | ({"cursor": cursor} if cursor else {})
            )
        ).json()
        assert page["hasMore"] == (page["nextCursor"] is not None)
        names += [each["id"] for each in page["data"]]
        if (cursor := page["nextCursor"]) is None:
            return names


async def test_reservations_are_listed_newest_first_by_every_filter(shop):
    async def names(**query):
        found = {id_: name for name, id_ in shop.held.items()}
        return [found[each] for each in await listed(shop, **query)]

    assert ["late", "expired", "failed", "confirmed", "pending"] == await names()
    assert ["expired", "failed", "pending"] == await names(accountId="alice")
    assert ["pending"] == await names(status="pending")
    assert ["late", "confirmed"] == await names(status="confirmed")
    assert ["failed"] == await names(status="cancelled")
    assert ["expired"] == await names(status="expired")
    assert ["confirmed", "pending"] == await names(modelId="flux")
    deadline = (await shop.get(f"{RESERVATIONS}/{shop.held['pending']}")).json()["expiresAt"]
    assert ["late", "expired"] == await names(dueBefore=deadline)
    assert ["expired"] == await names(dueBefore=deadline, accountId="alice", status="expired")
    assert [] == await names(accountId="nobody")


async def test_a_reservation_in_a_list_is_the_one_that_is_found_by_its_id(shop):
    for shown in (await shop.get(RESERVATIONS)).json()["data"]:
        assert (await shop.get(f"{RESERVATIONS}/{shown['id']}")).json() == shown


async def test_a_key_of_one_account_lists_its_own_reservations_only(shop, client_of):
    alice = await client_of("read", account="alice")
    assert await listed(shop, accountId="alice") == await listed(alice)
    answer = await alice.get(RESERVATIONS, params={"accountId": "bob"})
    assert (403, "forbidden") == (answer.status_code, answer.json()["code"])
    cursor = (await shop.get(RESERVATIONS, params={"limit": 1})).json()["nextCursor"]
    assert 400 == (await alice.get(RESERVATIONS, params={"cursor": cursor})).status_code


async def test_accounts_are_found_by_a_part_of_their_id_with_their_settings(shop):
    await setting(shop, "alice", overdraftLimit=40, lowBalance=7)
    await setting(shop, "alice", status="frozen")
    await grant_journaled(shop, "x.alice")
    await grant_journaled(shop, "alice")
    answer = (await shop.get(ACCOUNTS, params={"q": "ali"})).json()
    assert {"data", "nextCursor", "hasMore"} == answer.keys()
    balance = (await shop.get("/api/credits/balance?accountId=alice")).json()
    assert {
        "accountId": "alice", "overdraftLimit": 40, "status": "frozen", "lowBalance": 7,
        "available": balance["available"], "held": balance["held"], "version": balance["version"],
    } == answer["data"][0]  # fmt: skip
    assert ["alice", "x.alice"] == [each["accountId"] for each in answer["data"]]
    assert ["alice", "bob", "x.alice"] == [
        each["accountId"] for each in (await shop.get(ACCOUNTS)).json()["data"]
    ]
    first = (await shop.get(ACCOUNTS, params={"q": "ali", "limit": 1})).json()
    rest = await shop.get(ACCOUNTS, params={"q": "ali", "limit": 1, "cursor": first["nextCursor"]})
    assert ["x.alice"] == [each["accountId"] for each in rest.json()["data"]]
    assert 400 == (await shop.get(ACCOUNTS, params={"q": "al", "cursor": first["nextCursor"]})).status_code


async def grant_journaled(client, account):
    body = {"accountId": account, "amount": 1}
    answer = await client.post("/api/credits/grant", json=body, headers=JOURNALED)
    assert "true" == answer.headers["lastro-journaled"]


async def test_a_key_of_one_account_finds_that_one_only(shop, client_of):
    alice = await client_of("read", account="alice")
    for text, found in (("", ["alice"]), ("a", ["alice"]), ("lic", ["alice"]), ("bob", []), ("b", [])):
        answer = await alice.get(ACCOUNTS, params={"q": text})
        assert found == [each["accountId"] for each in answer.json()["data"]], text


async def test_no_sign_that_is_searched_for_stands_for_others(shop):
    for text in (
        "%",
        "_",
        "\\",
        "%%",
        "a%e",
        "al_ce",
        "*",
        "'",
        '"',
        "é",
        "\U0001f4b3",
        "~",
        "{}",
        "$1",
        "a" * 128,
    ):
        answer = await shop.get(ACCOUNTS, params={"q": text})
        assert (200, []) == (answer.status_code, answer.json()["data"]), text


async def test_queries_of_searches_have_their_shape(shop):
    for query in (
        "q=%00", "q=a%0Ab", "q=" + "a" * 129, "q=%FF", "limit=0", "limit=201", "limit=x", "cursor=x" * 300,
        "account=alice", "q=a&q=b",
    ):  # fmt: skip
        assert is_invalid(await shop.get(f"{ACCOUNTS}?{query}")), query
    for query in (
        "status=open", "status=", "status=pending,expired", "dueBefore=tomorrow",
        "dueBefore=2020-01-01T00:00:00",
        "dueBefore=0001-01-01T00:00:00%2B14:00", "modelId=", "accountId=a%20b", "limit=0", "limit=201", "q=a",
    ):  # fmt: skip
        assert is_invalid(await shop.get(f"{RESERVATIONS}?{query}")), query
    for path in (ACCOUNTS, RESERVATIONS):
        answer = await shop.get(f"{path}?cursor=AAAA")
        assert (400, "invalid_cursor") == (answer.status_code, answer.json()["code"])


READ_FROM_THE_JOURNAL = [
    "/api/credits/transactions",
    "/api/credits/transactions?accountId=alice&format=csv",
    "/api/credits/transactions?format=jsonl",
    "/api/credits/transactions/1-1-1",
    "/api/credits/balance?accountId=alice&at=2026-01-02T00:00:00Z",
    "/api/credits/accounts/alice/statement",
    RESERVATIONS,
    ACCOUNTS,
]


async def test_without_postgres_the_journal_is_503_and_what_redis_knows_is_there(own, own_postgres):  # noqa: F811
    """Reservations and tasks are looked for in Redis first, and in PostgreSQL only if Redis lacks them."""
    settings, token = own
    app = create_app(settings)
    async with running(app), client_over(app, token) as client:
        await grant(client)
        held = (await reserve(client, taskId="t", provider="fal"))["reservation"]
        own_postgres.kill()
        assert held == (await client.get(f"{RESERVATIONS}/{held['id']}")).json()
        found = await client.get("/api/images/by-task-id?taskId=t&provider=fal")
        assert (200, held["id"]) == (found.status_code, found.json()["reservationId"])
        other = held["id"][:-4] + ("0000" if held["id"][-4:] != "0000" else "1111")
        for path in (f"{RESERVATIONS}/{other}", "/api/images/by-task-id?taskId=u", *READ_FROM_THE_JOURNAL):
            answer = await client.get(path)
            assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"]), path
            assert "retry-after" in answer.headers


async def test_what_redis_has_forgotten_is_found_in_the_journal(client, settings, redis, app):
    await grant(client)
    held = (await reserve(client, taskId="t", provider="fal", resourceId="image-1"))["reservation"]["id"]
    done = (await do(client, "confirm", reservationId=held, amount=30))["reservation"]
    worker = asyncio.create_task(drain(settings.database_url, settings.redis_url, 60.0, keep=None))
    await grant_journaled(client, "alice")
    worker.cancel()
    await asyncio.wait({worker})
    for pattern in (f"*reservation:{held}", "*task:*"):
        forgotten = [key async for key in redis.scan_iter(match=pattern)]
        assert forgotten
        await redis.delete(*forgotten)
    assert done == (await client.get(f"{RESERVATIONS}/{held}")).json()
    found = (await client.get("/api/images/by-task-id?taskId=t&provider=fal")).json()
    assert (held, "image-1", "confirmed") == (found["reservationId"], found["id"], found["status"])
