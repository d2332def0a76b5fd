"""What is refused first, of the verbs that name a reservation, and of a batch."""

from tests.http.ladder import BEGUN, KEYED, NEW, USED, climb
from tests.http.steps import ask, do, grant, reserve, setting

TTL = {"ttlSeconds": 60}


async def made(client, account: str = "alice", **more) -> str:
    return (await reserve(client, account, **more))["reservation"]["id"]


async def test_confirm(clients, client, clock):
    await grant(client)
    cancelled, expired, pending = [await made(client, amount=20, **TTL) for _ in range(3)]
    used = {"reservationId": cancelled}
    await do(client, "cancel", **used)
    await ask(client, "confirm", key="used", **used)
    await do(client, "extend", reservationId=pending, ttlSeconds=7200)
    await clock.advance(61_000)
    await setting(client, status="frozen")

    async def thaw() -> None:
        await setting(client, status="active")

    body = {"reservationId": cancelled, "accountId": "carol", "amount": -1, "unknown": 1, "final": False}
    await climb(clients, "POST", "/api/credits/confirm", body, [
        *BEGUN,
        ("a part of nothing", {"amount": 0}, 400, "invalid_request"),
        ("another account than the key's", {"amount": 500}, 403, "forbidden"),
        *KEYED,
        ("a part without a key", {"headers": {"idempotency-key": "", "lastro-ack": ""}}, 422,
         "idempotency_key_required"),
        ("a used key", {"headers": {"idempotency-key": "used"}}, 422, "idempotency_mismatch"),
        ("somebody else's reservation", {"headers": {"idempotency-key": "new"}}, 404,
         "reservation_not_found"),
        ("a reservation that was cancelled", {"accountId": "alice"}, 409, "reservation_cancelled"),
        ("one that ran out of time", {"reservationId": expired, "headers": {"idempotency-key": "a"}}, 410,
         "reservation_expired"),
        ("late, a charge of a frozen account", {"onExpired": "charge", "headers": {"idempotency-key": "b"}},
         409, "account_frozen"),
        ("more than was held", {"done": thaw, "headers": {"idempotency-key": "c"}}, 422,
         "exceeds_reservation"),
        ("late, more than there is", {"overCapture": "charge", "headers": {"idempotency-key": "d"}}, 402,
         "insufficient_credits"),
        ("more than there is beside what is held", {"reservationId": pending}, 402, "insufficient_credits"),
        ("nothing", {"amount": 100, "headers": {"idempotency-key": "e"}}, 200, None),
    ])  # fmt: skip


async def test_confirm_of_a_frozen_account(clients, client):
    await grant(client)
    pending = await made(client, amount=61)
    await setting(client, status="frozen")
    headers = {"idempotency-key": "new", "lastro-ack": ""}
    body = {"reservationId": pending, "amount": 500, "overCapture": "charge"}

    async def thaw() -> None:
        await setting(client, status="active")

    await climb(clients, "POST", "/api/credits/confirm", body, [
        ("a charge of a frozen account", {"who": "right", "query": "", "headers": headers}, 409,
         "account_frozen"),
        ("more than there is", {"done": thaw, "headers": {"idempotency-key": "other"}}, 402,
         "insufficient_credits"),
        ("nothing", {"overCapture": "cap", "headers": {"idempotency-key": "third"}}, 200, None),
    ])  # fmt: skip


async def test_cancel(clients, client, clock):
    await grant(client)
    confirmed, expired = [await made(client, amount=20, **TTL) for _ in range(2)]
    pending = await made(client, amount=20)
    used = {"reservationId": confirmed}
    await do(client, "confirm", **used)
    await ask(client, "cancel", key="used", **used)
    await clock.advance(61_000)
    await setting(client, status="frozen")
    body = {"reservationId": confirmed, "accountId": "carol", "cause": "expired", "unknown": 1}
    await climb(clients, "POST", "/api/credits/cancel", body, [
        *BEGUN,
        ("another account than the key's", {"cause": None}, 403, "forbidden"),
        *KEYED, USED,
        ("somebody else's reservation", NEW, 404, "reservation_not_found"),
        ("a reservation that was confirmed", {"accountId": "alice"}, 409, "reservation_confirmed"),
        ("one that ran out of time", {"reservationId": expired}, 410, "reservation_expired"),
        ("nothing", {"reservationId": pending}, 200, None),
    ])  # fmt: skip


async def test_extend(clients, client, clock):
    await grant(client)
    confirmed, cancelled, expired = [await made(client, amount=1, **TTL) for _ in range(3)]
    pending, often = await made(client), await made(client)
    for _ in range(100):
        await do(client, "extend", reservationId=often, ttlSeconds=1800)
    await do(client, "confirm", reservationId=confirmed)
    await do(client, "cancel", reservationId=cancelled)
    await ask(client, "extend", key="used", reservationId=confirmed, ttlSeconds=60)
    await clock.advance(61_000)
    await setting(client, status="frozen")

    async def thaw() -> None:
        await setting(client, status="active")

    body = {"reservationId": confirmed, "accountId": "carol", "ttlSeconds": 0, "unknown": 1}
    await climb(clients, "POST", "/api/credits/extend", body, [
        *BEGUN,
        ("another account than the key's", {"ttlSeconds": 1}, 403, "forbidden"),
        *KEYED, USED,
        ("somebody else's reservation", NEW, 404, "reservation_not_found"),
        ("a reservation that was confirmed", {"accountId": "alice"}, 409, "reservation_confirmed"),
        ("one that was cancelled", {"reservationId": cancelled}, 409, "reservation_cancelled"),
        ("one that ran out of time", {"reservationId": expired}, 410, "reservation_expired"),
        ("a frozen account", {"reservationId": often}, 409, "account_frozen"),
        ("an earlier deadline", {"done": thaw}, 422, "invalid_extension"),
        ("as many extensions as there may be", {"ttlSeconds": 7200}, 422, "limit_reached"),
        ("nothing", {"reservationId": pending}, 200, None),
    ])  # fmt: skip


async def test_binding_a_task(clients, client):
    await grant(client)
    await reserve(client, amount=5, taskId="taken")
    pending = await made(client, amount=5)
    path = f"/api/credits/reservations/{pending}/task"
    unknown = f"/api/credits/reservations/{pending[:-4]}0000/task"
    await client.put(path, json={"taskId": "taken"}, headers={"idempotency-key": "used"})
    await setting(client, status="frozen")
    body = {"taskId": "", "unknown": 1}
    await climb(clients, "PUT", "/api/credits/reservations/17/task", body, [
        *BEGUN,
        ("an id that is not a UUID", {"taskId": "taken", "provider": "a:b"}, 400, "invalid_request"),
        ("a provider that is none", {"path": path}, 400, "invalid_request"),
        ("a key too long", {"provider": None}, 400, "invalid_request"),
        ("a wrong Lastro-Ack", {"headers": {"idempotency-key": "used"}}, 400, "invalid_request"),
        ("somebody else's reservation", {"headers": {"lastro-ack": ""}}, 404, "reservation_not_found"),
        ("a reservation that does not exist", {"path": unknown, "who": "right"}, 404,
         "reservation_not_found"),
        ("a used key", {"path": path, "resourceId": "r"}, 422, "idempotency_mismatch"),
        ("a task that another reservation has", NEW, 409, "task_conflict"),
        ("nothing", {"taskId": "free"}, 200, None),
    ])  # fmt: skip


async def test_batch(clients, client):
    """The request's own faults first, with the shape of all operations; then those of each."""
    await grant(client, amount=50)
    used = {"accountId": "alice", "amount": 5}
    await do(client, "deduct", key="used#1", **used)
    held = await made(client, amount=30)
    await setting(client, status="frozen")

    def operations(**second) -> dict:
        part = {"operation": "confirm", "reservationId": held, "amount": 1, "final": False}
        return {"operations": [part, {"operation": "deduct", "accountId": "alice", "amount": 60, **second}]}

    first_keyed = operations()
    first_keyed["operations"][0]["idempotencyKey"] = "its own"
    await climb(clients, "POST", "/api/credits/batch", operations(amount=0) | {"unknown": 1}, [
        *BEGUN,
        ("none at all", {"operations": []}, 400, "invalid_request"),
        ("a key too long", operations(), 400, "invalid_request"),
        ("a wrong Lastro-Ack", {"headers": {"idempotency-key": ""}}, 400, "invalid_request"),
        ("a part without a key", {"headers": {"lastro-ack": ""}}, 422, "idempotency_key_required"),
        ("nothing of its own", first_keyed, 200, None),
    ])  # fmt: skip

    async def met(who: str, key: str | None = None, **second) -> tuple[int, str | None]:
        both = {"operations": [{"operation": "grant", "accountId": "bob", "amount": 1}]}
        both["operations"].append({"operation": "deduct", "accountId": "alice", "amount": 60, **second})
        answer = await ask(clients[who], "batch", key=key, **both, atomic=True)
        assert 200 == answer.status_code, answer.text
        failed = answer.json().get("failedIndex")
        assert failed == (None if answer.json()["results"][1]["status"] == 201 else 1)
        return answer.json()["results"][1]["status"], answer.json()["results"][1].get("code")

    assert (403, "forbidden") == await met("bob's", "used")
    assert (422, "idempotency_mismatch") == await met("right", "used")
    assert (404, "account_not_found") == await met("right", accountId="nobody")
    assert (409, "account_frozen") == await met("right")
    await setting(client, status="active")
    assert (402, "insufficient_credits") == await met("right")
    assert (402, "credits_held") == await met("right", amount=40)
    assert (201, None) == await met("right", amount=15)
