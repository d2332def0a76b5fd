"""All routes of the application, with all kinds of credentials: nobody comes in who should not. No route is
forgotten, because the routes are asked of the application, and a new one fails until it stands in `MAY`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from tests.http.conftest import ALL, SHARDS, _client
from tests.http.people import (
    STRANGERS,
    settings_with_users,
    signed_with_what_is_public,
    token,
    unsigned,
)
from tests.http.steps import CREDITS, do
from tests.http.test_auth import MAY, OPEN_PATHS, UUID, filled, routes

USERS: dict[tuple[str, str], str] = {
    ("GET", "/api/credits/balance"): "read",
    ("GET", "/api/credits/transactions"): "read",
    ("GET", "/api/credits/transactions/1-1-1"): "read",
    ("GET", "/api/credits/reservations"): "read",
    ("GET", f"/api/credits/reservations/{UUID}"): "read",
    ("GET", "/api/images/by-task-id"): "read",
    ("GET", "/api/credits/accounts/alice/statement"): "read",
    ("POST", "/api/credits/deduct"): "deduct",
    ("POST", "/api/credits/reserve"): "reserve",
    ("POST", "/api/credits/extend"): "extend",
    ("PUT", f"/api/credits/reservations/{UUID}/task"): "bind",
    ("POST", "/api/credits/quote"): "quote",
    ("POST", "/api/credits/batch"): "deduct",
}
"""Where users may come, and with which verb. All other routes are for keys."""

OF_ALICE: dict[str, dict[str, Any]] = {
    "grant": {"accountId": "alice", "amount": 1},
    "deduct": {"accountId": "alice", "amount": 1},
    "reserve": {"accountId": "alice", "amount": 1},
    "confirm": {"reservationId": UUID},
    "cancel": {"reservationId": UUID},
    "extend": {"reservationId": UUID, "ttlSeconds": 3600},
    "refund": {"reservationId": UUID},
    "adjust": {"accountId": "alice", "amount": 1, "reason": "why"},
    "task": {"taskId": "other"},
    "batch": {"operations": [{"operation": "deduct", "accountId": "alice", "amount": 1}]},
    "quote": {"modelId": "m", "units": 1},
}
"""What is sent to the route whose path ends so: a request that would touch what is alice's."""

QUERIES = {
    "/api/credits/balance": "?accountId=alice",
    "/api/credits/transactions": "?accountId=alice",
    "/api/credits/reservations": "?accountId=alice",
    "/api/images/by-task-id": "?taskId=alices&provider=kling",
}

NOBODY = 401
NOT_YOU = 403


@pytest.fixture
async def settings(redis_url: str, database_url: str) -> Settings:
    await give_birth(database_url, redis_url, SHARDS)
    usual = Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS)
    return settings_with_users(usual, verbs="deduct,reserve,extend,bind,quote")


@pytest.fixture
async def alices(client) -> dict[str, str]:
    """What there is of alice, instead of what stands in paths and bodies."""
    await do(client, "grant", accountId="alice", amount=1000)
    made = await do(client, "reserve", accountId="alice", amount=10, taskId="alices", provider="kling")
    return {UUID: made["reservation"]["id"], "/1-1-1": f"/{made['transaction']['id']}"}


async def request(
    client: httpx.AsyncClient, method: str, path: str, alices: dict[str, str], **more: Any
) -> httpx.Response:
    """A request to a route that concerns alice."""
    body = OF_ALICE.get(path.rpartition("/")[2])
    if body is not None:
        body = {
            name: alices.get(value, value) if isinstance(value, str) else value
            for name, value in body.items()
        }
    asked = path + QUERIES.get(path, "")
    for place, value in alices.items():
        asked = asked.replace(place, value)
    return await client.request(method, asked, json=body, **more)


def test_the_table_of_users_names_routes_that_are_there():
    assert USERS.keys() <= MAY.keys()


async def test_a_credential_that_is_none_opens_nothing(app, client, stranger, database, alices):
    revoked = await api_keys.create(database, "revoked", ALL)
    expired = await api_keys.create(
        database, "expired", ALL, expires_at=datetime.now(UTC) + timedelta(days=1)
    )
    await api_keys.revoke(database, "revoked")
    await database.execute("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    past = int(datetime.now(UTC).timestamp()) - 3600
    authorizations = {
        "none": None,
        "empty": "",
        "another scheme": "Basic YWxpY2U6YWxpY2U=",
        "malformed": "Bearer lk_short",
        "not ASCII": b"Bearer \xff\xfe",
        "two": f"Bearer {revoked} {revoked}",
        "nobody's key": "Bearer lk_00000000_" + "A" * 43,
        "a revoked key": f"Bearer {revoked}",
        "an expired key": f"Bearer {expired}",
        "a prefix": f"Bearer {revoked[:12]}",
        "an expired token": f"Bearer {token('alice', exp=past)}",
        "a token that never ends": f"Bearer {token('alice', exp=None)}",
        "a token that is not valid yet": f"Bearer {token('alice', nbf=past + 7200)}",
        "a token for others": f"Bearer {token('alice', aud='shop')}",
        "a token for nobody": f"Bearer {token('alice', aud=None)}",
        "a token of another issuer": f"Bearer {token('alice', iss='https://evil.example/')}",
        "a token of no issuer": f"Bearer {token('alice', iss=None)}",
        "a token without an account": f"Bearer {token('alice', accounts=None)}",
        "a token that a stranger has signed": f"Bearer {token('alice', key=STRANGERS)}",
        "an unsigned token": f"Bearer {unsigned('alice')}",
        "HS256 under the public key": f"Bearer {signed_with_what_is_public('alice')}",
        "another algorithm": f"Bearer {token('alice', algorithm='PS512')}",
    }
    before = (await client.get(f"{CREDITS}/balance?accountId=alice")).json()
    walked = [(method, path) for method, path in routes(app) if path not in OPEN_PATHS]
    assert {(method, filled(path)) for method, path in walked if method != "OPTIONS"} == MAY.keys()
    for what, authorization in authorizations.items():
        headers = {} if authorization is None else {"authorization": authorization}
        for method, path in walked:
            answer = await request(stranger, method, filled(path), alices, headers=headers)
            assert NOBODY == answer.status_code, (what, method, path)
            assert "alice" not in answer.text
            assert "Bearer" == answer.headers["www-authenticate"]
    assert before == (await client.get(f"{CREDITS}/balance?accountId=alice")).json()


async def test_a_key_opens_what_its_scope_says_and_nothing_else(client_of, alices, journal):
    for scope in ALL:
        client = await client_of(scope)
        for (method, path), scopes in MAY.items():
            answer = await request(client, method, path, alices)
            assert (scope in scopes) == (NOT_YOU != answer.status_code), (scope, method, path, answer.text)
            assert answer.status_code < 500, (scope, method, path, answer.text)


async def test_nothing_of_alice_is_shown_to_or_moved_by_those_of_another_account(
    app, client, client_of, alices, journal
):
    await do(client, "grant", accountId="bob", amount=1)
    of_bob = {"a key": await client_of(*ALL, account="bob"), "a user": _client(app, token("bob"))}
    before = (await client.get(f"{CREDITS}/balance?accountId=alice&include=reservations")).json()
    for who, bob in of_bob.items():
        for method, path in MAY:
            answer = await request(bob, method, path, alices)
            assert answer.status_code < 500, (who, method, path, answer.text)
            if who == "a user" and (method, path) not in USERS:
                assert NOT_YOU == answer.status_code, (method, path)
            if answer.status_code < 300 and not path.endswith("/quote"):
                told = answer.json()
                refused = [each["status"] for each in told.get("results", [])]
                assert refused == [NOT_YOU] or not refused, (who, method, path)
                assert '"alice"' not in answer.text, (who, method, path)
            elif path != "/api/credits/quote":
                assert answer.status_code in (400, 403, 404, 422), (who, method, path, answer.text)
    after = (await client.get(f"{CREDITS}/balance?accountId=alice&include=reservations")).json()
    assert before == after
    assert "pending" == after["reservations"][0]["status"]


async def test_users_come_in_where_the_table_says_and_nowhere_else(app, alices, journal):
    async with _client(app, token("alice")) as alice:
        for method, path in MAY:
            answer = await request(alice, method, path, alices)
            assert ((method, path) in USERS) == (NOT_YOU != answer.status_code), (method, path, answer.text)
            assert answer.status_code < 500, (method, path, answer.text)


async def test_a_token_that_is_good_in_all_else_is_let_in(app, alices):
    """What the walk with wrong tokens stands on: they fail of what is wrong with them, of nothing else."""
    async with _client(app, token("alice")) as alice:
        assert 200 == (await alice.get(f"{CREDITS}/balance")).status_code
