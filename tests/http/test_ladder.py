"""What is refused first, of the verbs that name an account, and of reading."""

import httpx
import pytest
from msgspec.structs import replace

from app.settings import Settings
from tests.http.ladder import BEGUN, KEYED, NEW, USED, climb
from tests.http.steps import do, grant, reserve, setting

LARGEST = 2**53 - 1
LATER = "2100-01-01T00:00:00Z"
FOREIGN = ("another account than the key's", {"amount": 60}, 403, "forbidden")


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return replace(settings, holds_max=2)


def set_to(client: httpx.AsyncClient, status: str, account: str = "alice"):
    """Sets the status of an account."""

    async def done() -> None:
        await setting(client, account, status=status)

    return done


async def fill_with_lots(client: httpx.AsyncClient, account: str = "alice") -> None:
    """64 lots of a bucket each, which together hold as much as can be."""
    await setting(client, account, status="active")
    for number in range(63):
        await grant(client, account, amount=1, bucket=f"b{number}")
    await grant(client, account, amount=LARGEST - 63, bucket="b63")


async def test_grant(clients, client):
    used = {"accountId": "alice", "amount": 5}
    await do(client, "grant", key="used", **used)
    await do(client, "deduct", **used)
    await setting(client, status="closed")

    async def fill() -> None:
        await fill_with_lots(client)

    body = {"accountId": "alice", "amount": "60", "unknown": 1, "expiresAt": "2020-01-01T00:00:00Z"}
    await climb(clients, "POST", "/api/credits/grant", body, [
        *BEGUN, FOREIGN, *KEYED, USED,
        ("a closed account", NEW, 409, "account_closed"),
        ("an expiry in the past", {"done": fill}, 422, "already_expired"),
        ("one lot too many", {"expiresAt": LATER}, 422, "limit_reached"),
        ("a balance that would be too large", {"expiresAt": None, "bucket": "b7"}, 422, "balance_overflow"),
        ("nothing", {"accountId": "carol"}, 201, None),
    ])  # fmt: skip


async def test_deduct(clients, client):
    await grant(client, amount=50)
    await do(client, "deduct", key="used", accountId="alice", amount=5)
    await reserve(client, amount=30)
    await setting(client, status="frozen")
    await setting(client, "closed", status="closed")
    body = {"accountId": "alice", "amount": True, "unknown": 1}
    await climb(clients, "POST", "/api/credits/deduct", body, [
        *BEGUN, FOREIGN, *KEYED, USED,
        ("an account that does not exist", {"accountId": "nobody", **NEW}, 404, "account_not_found"),
        ("a closed account", {"accountId": "closed"}, 409, "account_closed"),
        ("a frozen account", {"accountId": "alice"}, 409, "account_frozen"),
        ("more than there is", {"done": set_to(client, "active")}, 402, "insufficient_credits"),
        ("more than is not held", {"amount": 45}, 402, "credits_held"),
        ("nothing", {"amount": 15}, 201, None),
    ])  # fmt: skip


async def test_deduct_by_units(clients, client):
    await grant(client, amount=50)
    await client.put("/api/credits/models", json={"modelId": "m", "base": 0, "price": 1})
    body = {"accountId": "alice", "amount": 1, "units": 60}
    await climb(clients, "POST", "/api/credits/deduct", body, [
        ("an amount beside them", {"who": "right", "query": "", "headers": {"idempotency-key": "",
         "lastro-ack": ""}}, 400, "invalid_request"),
        ("no model", {"amount": None}, 400, "invalid_request"),
        ("a model that does not exist", {"modelId": "none"}, 404, "model_not_found"),
        ("what comes to nothing", {"modelId": "m", "units": 0}, 400, "invalid_request"),
        ("more than there is", {"units": 60}, 402, "insufficient_credits"),
        ("nothing", {"units": 50}, 201, None),
    ])  # fmt: skip


async def test_reserve(clients, client):
    await grant(client, amount=50)
    used = {"accountId": "alice", "amount": 5, "taskId": "taken"}
    held = (await do(client, "reserve", key="used", **used))["reservation"]["id"]
    await reserve(client, amount=5)
    await setting(client, status="frozen")
    await setting(client, "closed", status="closed")

    async def cancel() -> None:
        await do(client, "cancel", reservationId=held)

    body = {"accountId": "alice", "amount": 1.0, "unknown": 1, "taskId": "taken"}
    await climb(clients, "POST", "/api/credits/reserve", body, [
        *BEGUN, FOREIGN, *KEYED, USED,
        ("an account that does not exist", {"accountId": "nobody", **NEW}, 404, "account_not_found"),
        ("a closed account", {"accountId": "closed"}, 409, "account_closed"),
        ("a frozen account", {"accountId": "alice"}, 409, "account_frozen"),
        ("a task of another reservation", {"done": set_to(client, "active")}, 409, "task_conflict"),
        ("as many holds as there may be", {"taskId": "free"}, 422, "limit_reached"),
        ("more than there is", {"done": cancel}, 402, "insufficient_credits"),
        ("more than is not held", {"amount": 50}, 402, "credits_held"),
        ("nothing", {"amount": 10}, 201, None),
    ])  # fmt: skip


async def test_refund(clients, client):
    granted = (await grant(client))["transaction"]["id"]
    spent = (await do(client, "deduct", accountId="alice", amount=100))["transaction"]["id"]
    await do(client, "refund", key="used", transactionId=spent, amount=5)
    await do(client, "deduct", accountId="alice", amount=5)
    await setting(client, status="closed")

    async def fill() -> None:
        await fill_with_lots(client)

    shard, incarnation, _ = granted.split("-")
    body = {"transactionId": f"{shard}-{incarnation}-999", "amount": -1, "unknown": 1}
    await climb(clients, "POST", "/api/credits/refund", body, [
        *BEGUN,
        ("a transaction that does not exist", {"amount": 96, "headers": {"idempotency-key": "used",
         "lastro-ack": ""}}, 404, "transaction_not_found"),
        ("somebody else's transaction", {"transactionId": granted}, 404, "transaction_not_found"),
        ("a used key", {"who": "right"}, 422, "idempotency_mismatch"),
        ("a closed account", NEW, 409, "account_closed"),
        ("what spent nothing", {"done": set_to(client, "active")}, 422, "not_refundable"),
        ("more than is left", {"transactionId": spent}, 422, "exceeds_transaction"),
        ("one lot too many", {"amount": 95, "done": fill}, 422, "limit_reached"),
        ("a balance that would be too large", {"bucket": "b7"}, 422, "balance_overflow"),
    ])  # fmt: skip
    await do(client, "adjust", accountId="alice", amount=-95, reason="room for it")
    await do(client, "refund", transactionId=spent, amount=95, bucket="b7")


async def test_adding_by_adjust(clients, client):
    used = {"accountId": "alice", "amount": 5, "reason": "why"}
    await do(client, "grant", accountId="alice", amount=5)
    await do(client, "adjust", key="used", **used)
    await do(client, "deduct", accountId="alice", amount=10)
    await setting(client, status="closed")

    async def fill() -> None:
        await fill_with_lots(client)

    body = {"accountId": "alice", "amount": 0, "unknown": 1, "bucket": "new", "reason": "why"}
    await climb(clients, "POST", "/api/credits/adjust", body, [
        *BEGUN, FOREIGN, *KEYED, USED,
        ("an account that does not exist", {"accountId": "nobody", **NEW}, 404, "account_not_found"),
        ("a closed account", {"accountId": "alice"}, 409, "account_closed"),
        ("one lot too many", {"done": fill}, 422, "limit_reached"),
        ("a balance that would be too large", {"bucket": "b7"}, 422, "balance_overflow"),
        ("what there is not", {"amount": -LARGEST, "bucket": "b8"}, 402, "insufficient_credits"),
        ("nothing", {"amount": -1}, 201, None),
    ])  # fmt: skip


async def test_taking_by_adjust(clients, client):
    await grant(client, amount=50)
    await reserve(client, amount=30)
    await setting(client, status="frozen")
    body = {"accountId": "nobody", "amount": -60, "reason": "why"}
    await climb(clients, "POST", "/api/credits/adjust", body, [
        ("an account that does not exist", {"who": "right", "query": "", "headers": {"idempotency-key": "",
         "lastro-ack": ""}}, 404, "account_not_found"),
        ("more than there is", {"accountId": "alice"}, 402, "insufficient_credits"),
        ("more than is not held", {"amount": -45}, 402, "credits_held"),
        ("nothing", {"short": "take"}, 201, None),
    ])  # fmt: skip


async def test_configure(clients, client):
    await setting(client, overdraftLimit=50)
    await setting(client, "closed", status="closed")
    await do(client, "deduct", accountId="alice", amount=30)
    alice, closed = "/api/credits/accounts/alice", "/api/credits/accounts/closed"
    body = {"lowBalance": -5, "unknown": 1, "overdraftLimit": 29}
    await climb(clients, "PATCH", "/api/credits/accounts/al%20ice", body, [
        *BEGUN,
        ("an id that is none", {"lowBalance": 5}, 400, "invalid_request"),
        ("another account than the key's", {"path": closed}, 403, "forbidden"),
        ("a wrong Lastro-Ack", {"who": "right"}, 400, "invalid_request"),
        ("a closed account", {"headers": {"lastro-ack": ""}}, 409, "account_closed"),
        ("one that is not empty", {"path": alice, "status": "closed"}, 409, "account_not_empty"),
        ("a limit below the debt", {"status": "frozen"}, 409, "overdraft_in_use"),
        ("nothing", {"overdraftLimit": 30}, 200, None),
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
    ("/api/credits/accounts/%21", None, None, 400, "invalid_request"),
    ("/api/credits/accounts/nobody", None, None, 404, "account_not_found"),
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
