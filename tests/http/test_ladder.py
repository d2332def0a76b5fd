"""When several things are wrong, the answer names the first in the order of the contract.

That order: authentication, scope, shape, idempotency, existence, state, limits, funds. In each table every
row repairs the fault of the row above it; all faults below are still there.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from app.settings import Settings
from tests.http.test_credits import grant, reserve

Step = tuple[str, dict[str, Any], int, str | None]
"""What the step repairs in the request, and the status and code that the repaired request meets."""


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return replace(settings, holds_max=2)


async def climb(
    clients: dict[str, httpx.AsyncClient], method: str, path: str, body: dict[str, Any], steps: list[Step]
) -> None:
    """Make the request again and again, each time with one more fault repaired (`None` removes a field)."""
    who, headers = "nobody", {"idempotency-key": "x" * 256, "lastro-ack": "soon"}
    query = "?surprise=1"
    for title, repairs, status, code in steps:
        repair = dict(repairs)
        who = repair.pop("who", who)
        path = repair.pop("path", path)
        query = repair.pop("query", query)
        headers = {**headers, **repair.pop("headers", {})}
        body = {name: value for name, value in (body | repair).items() if value is not None}
        sent = {name: value for name, value in headers.items() if value}
        answer = await clients[who].request(method, path + query, json=body, headers=sent)
        assert (status, code) == (answer.status_code, answer.json().get("code")), (title, answer.text)


@pytest.fixture
async def clients(stranger, client, client_of: Callable[..., Awaitable[httpx.AsyncClient]]):
    return {
        "nobody": stranger,
        "wrong": await client_of("read"),
        "right": client,
        "bob's": await client_of("spend", "grant", account="bob"),
    }


BEGUN: list[Step] = [
    ("a stranger", {}, 401, "unauthenticated"),
    ("a key without the scope", {"who": "wrong"}, 403, "forbidden"),
    ("a query that is not taken", {"who": "bob's"}, 400, "invalid_request"),
    ("a field that is not known", {"query": ""}, 400, "invalid_request"),
    ("a field of the wrong shape", {"unknown": None}, 400, "invalid_request"),
    ("another account than the key's", {"amount": 60}, 403, "forbidden"),
    ("a key too long", {"who": "right"}, 400, "invalid_request"),
    ("a wrong Lastro-Ack", {"headers": {"idempotency-key": "used"}}, 400, "invalid_request"),
]
"""What all verbs share, from a stranger down to the shape."""


async def test_grant(clients, client):
    await grant(client, amount=2**53 - 1)
    used = {"accountId": "alice", "amount": 5}
    await client.post("/api/credits/grant", json=used, headers={"idempotency-key": "used"})
    body = {"accountId": "alice", "amount": "60", "unknown": 1, "expiresAt": "2020-01-01T00:00:00Z"}
    await climb(clients, "POST", "/api/credits/grant", body, [
        *BEGUN,
        ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch"),
        ("an expiry in the past", {"headers": {"idempotency-key": "new"}}, 422, "already_expired"),
        ("a balance that would be too large", {"expiresAt": None, "headers": {"idempotency-key": ""}}, 422,
         "balance_overflow"),
        ("nothing", {"accountId": "carol"}, 201, None),
    ])  # fmt: skip


async def test_deduct(clients, client):
    await grant(client, amount=50)
    used = {"accountId": "alice", "amount": 5}
    await client.post("/api/credits/deduct", json=used, headers={"idempotency-key": "used"})
    await reserve(client, amount=30)
    body = {"accountId": "alice", "amount": True, "unknown": 1}
    await climb(clients, "POST", "/api/credits/deduct", body, [
        *BEGUN,
        ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch"),
        ("an account that does not exist", {"accountId": "nobody", "headers": {"idempotency-key": ""}}, 404,
         "account_not_found"),
        ("more than there is", {"accountId": "alice"}, 402, "insufficient_credits"),
        ("more than is not held", {"amount": 45}, 402, "credits_held"),
        ("nothing", {"amount": 15}, 201, None),
    ])  # fmt: skip


async def test_reserve(clients, client):
    await grant(client, amount=50)
    used = {"accountId": "alice", "amount": 5, "taskId": "taken"}
    held = await client.post("/api/credits/reserve", json=used, headers={"idempotency-key": "used"})
    await reserve(client, amount=5)
    body = {"accountId": "alice", "amount": 1.0, "unknown": 1, "taskId": "taken"}
    await climb(clients, "POST", "/api/credits/reserve", body, [
        *BEGUN,
        ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch"),
        ("an account that does not exist", {"accountId": "nobody", "headers": {"idempotency-key": ""}}, 404,
         "account_not_found"),
        ("a task that another reservation has", {"accountId": "alice"}, 409, "task_conflict"),
        ("as many holds as there may be", {"taskId": "free"}, 422, "limit_reached"),
    ])  # fmt: skip
    await client.post("/api/credits/cancel", json={"reservationId": held.json()["reservation"]["id"]})
    ask = {"accountId": "alice", "amount": 60, "taskId": "free"}
    assert 402 == (await client.post("/api/credits/reserve", json=ask)).status_code
    assert 201 == (await client.post("/api/credits/reserve", json=ask | {"amount": 10})).status_code


async def test_confirm(clients, client):
    await grant(client)
    cancelled = (await reserve(client))["reservation"]["id"]
    used = {"reservationId": cancelled}
    await client.post("/api/credits/cancel", json=used)
    await client.post("/api/credits/confirm", json=used, headers={"idempotency-key": "used"})
    pending = (await reserve(client))["reservation"]["id"]
    body = {"reservationId": cancelled, "accountId": "carol", "amount": -1, "unknown": 1}
    await climb(clients, "POST", "/api/credits/confirm", body, [
        *BEGUN,
        ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch"),
        ("somebody else's reservation", {"headers": {"idempotency-key": ""}}, 404, "reservation_not_found"),
        ("a reservation that was cancelled", {"accountId": "alice"}, 409, "reservation_cancelled"),
        ("more than is held", {"reservationId": pending}, 422, "exceeds_reservation"),
        ("nothing", {"amount": 40}, 200, None),
    ])  # fmt: skip


async def test_cancel(clients, client):
    await grant(client)
    confirmed = (await reserve(client))["reservation"]["id"]
    used = {"reservationId": confirmed}
    await client.post("/api/credits/confirm", json=used)
    await client.post("/api/credits/cancel", json=used, headers={"idempotency-key": "used"})
    pending = (await reserve(client))["reservation"]["id"]
    body = {"reservationId": confirmed, "accountId": "carol", "cause": "expired", "unknown": 1}
    await climb(clients, "POST", "/api/credits/cancel", body, [
        *BEGUN[:5],
        ("another account than the key's", {"cause": None}, 403, "forbidden"),
        *BEGUN[6:],
        ("a used key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_mismatch"),
        ("somebody else's reservation", {"headers": {"idempotency-key": ""}}, 404, "reservation_not_found"),
        ("a reservation that was confirmed", {"accountId": "alice"}, 409, "reservation_confirmed"),
        ("nothing", {"reservationId": pending}, 200, None),
    ])  # fmt: skip


async def test_binding_a_task(clients, client):
    await grant(client)
    await reserve(client, taskId="taken")
    pending = (await reserve(client))["reservation"]["id"]
    path = f"/api/credits/reservations/{pending}/task"
    unknown = f"/api/credits/reservations/{pending[:-4]}0000/task"
    body = {"taskId": "", "unknown": 1}
    await climb(clients, "PUT", "/api/credits/reservations/17/task", body, [
        *BEGUN[:5],
        ("an id that is not a UUID", {"taskId": "taken", "who": "right"}, 400, "invalid_request"),
        ("a key too long", {"path": unknown}, 400, "invalid_request"),
        ("a wrong Lastro-Ack", {"headers": {"idempotency-key": "k"}}, 400, "invalid_request"),
        ("a reservation that does not exist", {"headers": {"lastro-ack": ""}}, 404, "reservation_not_found"),
        ("a task that another reservation has", {"path": path}, 409, "task_conflict"),
        ("nothing", {"taskId": "free", "headers": {"idempotency-key": ""}}, 200, None),
    ])  # fmt: skip


NOBODYS = "01a1ffa5-4956-7003-abd8-99c175348713"
READS = [
    ("/api/credits/balance", "accountId=%21", "accountId=nobody", 404, "account_not_found"),
    ("/api/images/by-task-id", "", "taskId=nobody", 404, "reservation_not_found"),
    ("/api/credits/transactions", "limit=201", "cursor=AAAA", 400, "invalid_cursor"),
    ("/api/credits/reservations/17", None, None, 400, "invalid_request"),
    (f"/api/credits/reservations/{NOBODYS}", None, None, 404, "reservation_not_found"),
    ("/api/credits/transactions/17", None, None, 400, "invalid_request"),
    ("/api/credits/transactions/1-1-17", None, None, 404, "transaction_not_found"),
]


async def test_reading(stranger, client, client_of):
    granting = await client_of("grant")
    for path, misshapen, shapely, status, code in READS:

        async def met(by: httpx.AsyncClient, query: str | None, path: str = path) -> tuple[int, str]:
            answer = await by.get(path + (f"?{query}" if query else ""))
            return answer.status_code, answer.json()["code"]

        assert (401, "unauthenticated") == await met(stranger, "surprise=1"), path
        assert (403, "forbidden") == await met(granting, "surprise=1"), path
        assert (400, "invalid_request") == await met(client, "surprise=1"), path
        if misshapen is not None:
            assert (400, "invalid_request") == await met(client, misshapen), path
        assert (status, code) == await met(client, shapely), path
