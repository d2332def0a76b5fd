"""Users come with tokens of their own, see what is theirs, and may do what the settings name."""

import httpx
import pytest

from app.settings import Settings
from persistence.birth import give_birth
from tests.http.conftest import SHARDS, _client, running
from tests.http.people import settings_with_users, token
from tests.http.serving import create_app
from tests.http.steps import CREDITS, ask, deduct, do, op


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    await give_birth(database_url, redis_url, SHARDS)
    usual = Settings(
        redis_url=redis_url,
        database_url=database_url,
        shards=SHARDS,
        public_url="https://lastro.example",
        webhook_master_secrets="m" * 32,
        webhook_bfl_secrets="callback",
    )
    return settings_with_users(usual)


@pytest.fixture
async def user_of(app):
    """Makes users of accounts."""
    clients: list[httpx.AsyncClient] = []

    def make(*accounts: str) -> httpx.AsyncClient:
        clients.append(_client(app, token(*accounts)))
        return clients[-1]

    yield make
    for each in clients:
        await each.aclose()


@pytest.fixture
async def alice(client, user_of):
    await do(client, "grant", accountId="alice", amount=100)
    await do(client, "grant", accountId="bob", amount=100)
    return user_of("alice")


async def refused(answer: httpx.Response, status: int, code: str) -> dict:
    assert (status, code) == (answer.status_code, answer.json()["code"]), answer.text
    return answer.json()


async def test_a_user_sees_its_own_account_without_naming_it(alice, journal, until):
    balance = await alice.get(f"{CREDITS}/balance")
    assert (200, "alice", 100) == (
        balance.status_code, balance.json()["accountId"], balance.json()["available"],
    )  # fmt: skip
    for path in ("transactions", "reservations"):
        page = await alice.get(f"{CREDITS}/{path}")
        assert 200 == page.status_code
        assert {"alice"} >= {each["accountId"] for each in page.json()["data"]}
    assert 200 == (await alice.get(f"{CREDITS}/balance?accountId=alice")).status_code


async def test_another_account_is_forbidden_whatever_asks_for_it(alice):
    for path in (
        "balance?accountId=bob",
        "balance?accountId=bob&include=reservations",
        "balance?accountId=bob&at=2026-01-01T00:00:00Z",
        "transactions?accountId=bob",
        "transactions?accountId=bob&format=csv",
        "reservations?accountId=bob",
        "accounts/bob/statement",
        "balance?accountId=nobody",
    ):
        await refused(await alice.get(f"{CREDITS}/{path}"), 403, "forbidden")
    for verb in ("deduct", "reserve"):
        await refused(await ask(alice, verb, accountId="bob", amount=1), 403, "forbidden")


async def test_what_is_anothers_does_not_exist(client, alice):
    made = await do(client, "reserve", accountId="bob", amount=5, taskId="t", provider="kling")
    theirs, transaction = made["reservation"]["id"], made["transaction"]["id"]
    for path in (
        f"{CREDITS}/reservations/{theirs}",
        "/api/images/by-task-id?taskId=t&provider=kling",
    ):
        await refused(await alice.get(path), 404, "reservation_not_found")
    answer = await client.post(
        f"{CREDITS}/deduct", json={"accountId": "bob", "amount": 1}, headers={"lastro-ack": "memory"}
    )
    assert 400 == answer.status_code
    await refused(await alice.get(f"{CREDITS}/transactions/{transaction}"), 404, "transaction_not_found")
    for body in ({"reservationId": theirs}, {"taskId": "t", "provider": "kling"}):
        answer = await ask(alice, "extend", ttlSeconds=3600, **body)
        await refused(answer, 404, "reservation_not_found")
    answer = await alice.put(f"{CREDITS}/reservations/{theirs}/task", json={"taskId": "u"})
    await refused(answer, 404, "reservation_not_found")
    conflict = await ask(alice, "reserve", accountId="alice", amount=1, taskId="t", provider="kling")
    assert theirs not in conflict.text
    for filtered in (f"reservationId={theirs}", "taskId=t"):
        page = await alice.get(f"{CREDITS}/transactions?{filtered}")
        assert (200, []) == (page.status_code, page.json()["data"])


async def test_a_journaled_transaction_of_another_does_not_exist_either(client, alice, journal):
    answer = await client.post(
        f"{CREDITS}/deduct", json={"accountId": "bob", "amount": 1}, headers={"lastro-ack": "journaled"}
    )
    assert "true" == answer.headers["lastro-journaled"]
    path = f"{CREDITS}/transactions/{answer.json()['transaction']['id']}"
    assert 200 == (await client.get(path)).status_code
    await refused(await alice.get(path), 404, "transaction_not_found")


async def test_who_has_several_accounts_names_one(client, alice, user_of):
    team = user_of("bob", "alice", "carol")
    for path in ("balance", "transactions", "reservations"):
        why = await refused(await team.get(f"{CREDITS}/{path}"), 400, "invalid_request")
        assert ("accountId", "`accountId`: one of alice, bob, carol.") == (why["field"], why["detail"])
    for account in ("alice", "bob"):
        assert 100 == (await team.get(f"{CREDITS}/balance?accountId={account}")).json()["available"]
        made = await do(team, "reserve", accountId=account, amount=1)
        assert 200 == (await team.get(f"{CREDITS}/reservations/{made['reservation']['id']}")).status_code
    await refused(await team.get(f"{CREDITS}/balance?accountId=dave"), 403, "forbidden")


async def test_what_a_user_does_is_journaled_under_its_name(alice):
    made = await do(alice, "deduct", accountId="alice", amount=7)
    assert ("user:user-of-alice", 93) == (made["transaction"]["by"], made["balance"]["available"])


async def test_a_user_may_do_what_the_settings_name_and_never_end_a_reservation(client, alice):
    made = (await do(alice, "reserve", accountId="alice", amount=10))["reservation"]["id"]
    await do(alice, "extend", reservationId=made, ttlSeconds=3600)
    assert 200 == (await alice.put(f"{CREDITS}/reservations/{made}/task", json={"taskId": "t"})).status_code
    for verb, body in (
        ("cancel", {"reservationId": made}),
        ("confirm", {"reservationId": made, "amount": 0}),
        ("grant", {"accountId": "alice", "amount": 1}),
        ("refund", {"reservationId": made}),
        ("adjust", {"accountId": "alice", "amount": 1, "reason": "I want to"}),
    ):
        why = await refused(await ask(alice, verb, **body), 403, "forbidden")
        assert "user's token" in why["detail"]
        answer = await ask(alice, "batch", operations=[op(verb, **body)])
        assert [(403, "forbidden")] == [(each["status"], each["code"]) for each in answer.json()["results"]]
        answer = await ask(alice, "batch", atomic=True, operations=[deduct(1), op(verb, **body)])
        assert (1, [424, 403]) == (
            answer.json()["failedIndex"], [each["status"] for each in answer.json()["results"]],
        )  # fmt: skip
    found = (await client.get(f"{CREDITS}/reservations/{made}")).json()
    assert ("pending", 10) == (found["status"], found["held"])
    assert 90 == (await client.get(f"{CREDITS}/balance?accountId=alice")).json()["available"]


async def test_a_batch_of_a_user_touches_its_own_account_only(alice):
    operations = [deduct(1), deduct(1, "bob"), op("reserve", accountId="bob", amount=1)]
    results = (await ask(alice, "batch", operations=operations)).json()["results"]
    assert [201, 403, 403] == [each["status"] for each in results]


async def test_where_the_settings_name_nothing_a_user_only_reads(settings, client, alice):
    application = create_app(settings_with_users(settings, verbs=""))
    async with running(application), _client(application, token("alice")) as reader:
        assert 200 == (await reader.get(f"{CREDITS}/balance")).status_code
        for verb, body in (
            ("deduct", {"accountId": "alice", "amount": 1}),
            ("batch", {"operations": [deduct(1)]}),
            ("quote", {"modelId": "m", "units": 1}),
        ):
            await refused(await ask(reader, verb, **body), 403, "forbidden")


async def test_without_settings_of_tokens_nobody_comes_in_with_one(settings, alice):
    bare = Settings(redis_url=settings.redis_url, database_url=settings.database_url, shards=SHARDS)
    application = create_app(bare)
    async with running(application), _client(application, token("alice")) as reader:
        await refused(await reader.get(f"{CREDITS}/balance"), 401, "unauthenticated")


async def test_a_user_is_never_shown_where_the_provider_reports(client, alice):
    body = {"accountId": "alice", "amount": 1, "provider": "bfl"}
    shown = await do(client, "reserve", **body)
    assert "callback" in shown
    hidden = await do(alice, "reserve", **body)
    assert "callback" not in hidden
    results = (await ask(alice, "batch", operations=[op("reserve", **body)])).json()["results"]
    assert [201] == [each["status"] for each in results]
    assert "callback" not in results[0]
    secret, url = shown["callback"].get("secret"), shown["callback"]["url"]
    found = await alice.get(f"{CREDITS}/reservations/{shown['reservation']['id']}")
    assert 200 == found.status_code
    assert str(secret) not in found.text
    assert url.rpartition("/")[2] not in found.text


async def test_a_user_that_repeats_its_key_is_answered_the_same(alice):
    first = await ask(alice, "deduct", key="once", accountId="alice", amount=1)
    again = await ask(alice, "deduct", key="once", accountId="alice", amount=1)
    assert first.json()["transaction"] == again.json()["transaction"]
    assert "true" == again.headers["idempotency-replayed"]
