"""What a stranger tries who has read the contract: each of these broke something once, or was near to it."""

import httpx
import pytest

from tests.http.steps import CREDITS, ask, do, grant, is_refused, op, reserve
from tests.http.test_auth import OPEN_PATHS, UUID, filled, routes
from tests.http.test_batched_keys import SAME
from tests.http.test_health import own  # noqa: F401 - a fixture

NOBODYS = "01a1ffa5-4956-7003-abd8-99c175348713"


@pytest.fixture
async def alice(client, client_of):
    """A key of one account that may do everything, beside another account."""
    await grant(client, "alice")
    await grant(client, "bob")
    return await client_of("spend", "grant", "read", "operate", account="alice")


@pytest.fixture
async def bobs(client, journal) -> dict[str, str]:
    """What bob has, all of it journaled: a hold with a task, one that was confirmed, and what he spent."""
    held = await reserve(client, "bob", taskId="t", provider="fal")
    ended = await reserve(client, "bob")
    await do(client, "confirm", reservationId=ended["reservation"]["id"], amount=5)
    spending = {"accountId": "bob", "amount": 5}
    spent = await client.post(f"{CREDITS}/deduct", json=spending, headers={"lastro-ack": "journaled"})
    assert "true" == spent.headers["lastro-journaled"]
    return {
        "account": "bob",
        "task": "t",
        "held": held["reservation"]["id"],
        "ended": ended["reservation"]["id"],
        "spent": spent.json()["transaction"]["id"],
        "reserved": held["transaction"]["id"],
    }


SETTLING = [
    ("confirm", {}), ("confirm", {"amount": 1}), ("confirm", {"units": "1"}), ("cancel", {}),
    ("extend", {"ttlSeconds": 60}),
]  # fmt: skip


NAMING = [
    *((verb, body | {"reservationId": of}) for verb, body in SETTLING for of in ("held", "ended")),
    *((verb, body | {"taskId": "task", "provider": "fal"}) for verb, body in SETTLING),
    *(("refund", {"reservationId": of}) for of in ("held", "ended")),
    *(("refund", {"transactionId": of, "amount": 2**53 - 1}) for of in ("spent", "reserved")),
]
"""Requests that name something; the value is a name of `bobs`."""


READING = [
    ("/api/images/by-task-id?provider=fal&taskId=%s", "task"),
    (f"{CREDITS}/accounts/%s", "account"),
    (f"{CREDITS}/accounts/%s/statement", "account"),
    (f"{CREDITS}/accounts?q=%s", "account"),
    (f"{CREDITS}/balance?accountId=%s", "account"),
    (f"{CREDITS}/balance?at=2026-01-01T00:00:00Z&accountId=%s", "account"),
    (f"{CREDITS}/reservations/%s", "held"),
    (f"{CREDITS}/reservations/%s", "ended"),
    (f"{CREDITS}/reservations?accountId=%s", "account"),
    (f"{CREDITS}/transactions/%s", "spent"),
    (f"{CREDITS}/transactions?accountId=%s", "account"),
    (f"{CREDITS}/transactions?format=csv&reservationId=%s", "held"),
    (f"{CREDITS}/transactions?reservationId=%s", "ended"),
    (f"{CREDITS}/transactions?taskId=%s", "task"),
]


def told(answer: httpx.Response) -> tuple:
    """All that an answer says, but for the id of its request."""
    return answer.status_code, answer.text, dict(answer.headers) | {"x-request-id": ""}


async def test_to_a_key_of_one_account_what_is_anothers_looks_like_what_does_not_exist(alice, bobs):
    nothing = dict.fromkeys(bobs, NOBODYS) | {"account": "nobody", "task": "none"}
    for name in ("spent", "reserved"):
        nothing[name] = bobs[name].rpartition("-")[0] + "-9999"
    for verb, body in NAMING:
        for key in (None, "k"):
            answers = []
            for names in (bobs, nothing):
                named = {field: names.get(value, value) for field, value in body.items()}
                alone = await ask(alice, verb, key=key, **named)
                among = await ask(alice, "batch", key=key, operations=[op(verb, **named)], atomic=True)
                answers.append((told(alone), told(among)))
                assert 404 == alone.status_code, (verb, body)
            assert answers[0] == answers[1], (verb, body)
    for path, name in READING:
        theirs, nobodys = [await alice.get(path % names[name]) for names in (bobs, nothing)]
        assert told(theirs) == told(nobodys), path
    for name in ("held", "ended"):
        paths = [f"{CREDITS}/reservations/{names[name]}/task" for names in (bobs, nothing)]
        theirs, nobodys = [await alice.put(path, json={"taskId": "x"}) for path in paths]
        assert told(theirs) == told(nobodys)


async def test_a_key_of_one_account_does_not_see_what_drifted_of_others(client, client_of, database):
    await database.execute(
        "INSERT INTO reconciliations (started_at, finished_at, status, by, accounts, drift) "
        "VALUES (now(), now(), 'drift', 'system', 3, $1::jsonb)",
        '[{"accountId": "bob", "field": "available", "redis": 6, "journal": 5}]',
    )
    alice = await client_of("operate", account="alice")
    path = f"{CREDITS}/reconciliation"
    for answer in (await alice.get(path), await alice.post(path)):
        assert (403, "forbidden") == (answer.status_code, answer.json().get("code")), answer.text


OF_ONE_ACCOUNT = {
    ("GET", "/api/credits/accounts"), ("GET", "/api/credits/accounts/alice"),
    ("GET", "/api/credits/accounts/alice/statement"), ("PATCH", "/api/credits/accounts/alice"),
    ("GET", "/api/credits/balance"), ("GET", "/api/credits/reservations"),
    ("GET", f"/api/credits/reservations/{UUID}"), ("PUT", f"/api/credits/reservations/{UUID}/task"),
    ("GET", "/api/credits/transactions"), ("GET", "/api/credits/transactions/1-1-1"),
    ("GET", "/api/images/by-task-id"),
    *(("POST", f"/api/credits/{verb}") for verb in {**SAME, **dict.fromkeys(
        ("confirm", "cancel", "extend", "refund", "batch"))}),
}  # fmt: skip
"""What a key of one account may ask: its own of it, as the tests above and those of each say."""


OF_EVERYBODY = {("GET", "/api/credits/models"), ("POST", "/api/credits/quote")}
"""What says nothing of any account."""


SHAPELY = {
    ("PUT", "/api/credits/models"): {"modelId": "m", "base": 0, "price": 1},
    ("POST", "/api/credits/auto-cleanup"): {"action": "stop"},
    ("POST", "/api/credits/events/endpoints"): {"url": "https://shop.test/told"},
}
"""Bodies of those that need one: who may not ask is told so after the shape."""

ASKING = {
    "/api/credits/auto-cleanup": "?action=status",
    "/api/credits/cleanup": "?action=count",
    "/api/credits/monitoring": "?type=overview",
}
"""And queries."""


async def test_whatever_else_there_is_a_key_of_one_account_is_refused(app, alice):
    asked = {(method, filled(path)) for method, path in routes(app) if path not in OPEN_PATHS}
    others = {each for each in asked if each[0] != "OPTIONS"} - OF_ONE_ACCOUNT - OF_EVERYBODY
    assert ("GET", "/api/credits/reconciliation") in others
    for method, path in sorted(others):
        asking = ASKING.get(path, "") if method == "GET" else ""
        answer = await alice.request(method, path + asking, json=SHAPELY.get((method, path), {}))
        assert (403, "forbidden") == (answer.status_code, answer.json()["code"]), (method, path)


async def test_what_settings_are_refused_for_is_kept_under_no_key(client):
    await grant(client)
    answer = await client.patch(
        f"{CREDITS}/accounts/alice", json={"status": "closed"}, headers={"idempotency-key": "k"}
    )
    assert 409 == answer.status_code
    assert "key" not in answer.json()["detail"]


async def test_the_same_confirm_again_is_no_conflict_when_the_policy_lowered_its_amount(client):
    await grant(client)
    held = (await reserve(client, amount=40))["reservation"]["id"]
    for _ in range(2):
        answer = await ask(client, "confirm", reservationId=held, amount=50, overCapture="cap")
        assert 40 == answer.json()["transaction"]["amount"]
        assert "lastro-conflict" not in answer.headers
    answer = await ask(client, "confirm", reservationId=held, amount=39, overCapture="cap")
    assert "amount" == answer.headers["lastro-conflict"]
    answer = await ask(client, "confirm", reservationId=held, amount=50)
    assert "amount" == answer.headers["lastro-conflict"]


async def test_a_late_confirm_again_is_no_conflict_when_the_policy_lowered_its_amount(client, clock):
    await grant(client)
    late = {"onExpired": "charge", "overCapture": "cap", "ttlSeconds": 60}
    held = (await reserve(client, amount=40, **late))["reservation"]["id"]
    await do(client, "confirm", key="a part", reservationId=held, amount=15, final=False)
    await clock.advance(60_000)
    for amount, conflict in ((50, None), (50, None), (25, None), (24, "amount")):
        answer = await ask(client, "confirm", reservationId=held, amount=amount)
        assert (25, conflict) == (
            answer.json()["transaction"]["amount"],
            answer.headers.get("lastro-conflict"),
        ), amount


async def test_whoever_is_late_or_gives_back_too_much_is_told_what_is_possible(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]["id"]
    await clock.advance(60_000)
    late = await is_refused(client, "confirm", 410, "reservation_expired", reservationId=held)
    assert "confirm with onExpired: charge" in late["detail"]
    await do(client, "confirm", reservationId=held, onExpired="charge")
    await do(client, "refund", reservationId=held)
    twice = await is_refused(client, "refund", 422, "exceeds_transaction", reservationId=held)
    assert "0 are left. No more than what is left can be given back." in twice["detail"]


WRONG = [
    ("GET", "reservations?status=open", None, "status",
     "'open' is none of cancelled, confirmed, expired, pending."),
    ("GET", "reservations?dueBefore=2026-01-01", None, "dueBefore", "(in a query a + is written %2B)."),
    ("GET", "transactions?from=2026-01-01T00:00:00+01:00", None, "from", "(in a query a + is written %2B)."),
    ("POST", "grant", {"expiresAt": "2100-01-01"}, "expiresAt", "or 2100-01-31T01:00:00+01:00."),
    ("POST", "grant", {"expiresAt": "2100-01-01T00:00:00"}, "expiresAt", "such as 2100-01-31T00:00:00Z"),
    ("POST", "reserve", {"overCapture": "Cap"}, "overCapture", "'Cap' is none of cap, charge, reject."),
    ("POST", "batch", {"operations": [{"operation": "steal"}]}, "operations[0].operation",
     "'steal' is none of adjust, cancel, confirm, deduct, extend, grant, refund, reserve."),
    ("POST", "batch", {"operations": [{"operation": "cancel", "taskId": "t", "cause": "c" * 99}]},
     "operations[0].cause", f"'{'c' * 63} is none of failed, requested."),
    ("PATCH", "accounts/alice", {"status": "shut"}, "status", "'shut' is none of active, closed, frozen."),
    ("POST", "events/endpoints", {"url": "https://shop.example", "events": ["balance.lo"]}, "events[0]",
     "'balance.lo' is none of balance.depleted, balance.low, grant.lapsing, "),
    ("GET", "webhooks?status=gone", None, "status",
     "'gone' is none of conflict, duplicate, late, received, refused, rejected, unknown, verified, waiting."),
]  # fmt: skip


async def test_what_is_none_of_a_few_words_or_no_time_is_told_what_would_be_right(client):
    usual = {"accountId": "alice", "amount": 1}
    for method, path, body, field, said in WRONG:
        sent = usual | body if path in {"grant", "reserve"} else body
        answer = await client.request(method, f"{CREDITS}/{path}", json=sent)
        assert (400, field) == (answer.status_code, answer.json()["field"]), path
        assert said in answer.json()["detail"], path
