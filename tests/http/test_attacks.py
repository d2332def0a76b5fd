"""What a stranger tries who has read the contract: each of these broke something once, or was near to it."""

import pytest

from tests.http.steps import CREDITS, ask, do, op
from tests.http.test_credits import grant, reserve

NOBODYS = "01a1ffa5-4956-7003-abd8-99c175348713"


@pytest.fixture
async def alice(client, client_of):
    """A key of one account that may do everything, beside an account that has a little of everything."""
    await grant(client, "alice")
    await grant(client, "bob")
    return await client_of("spend", "grant", "read", "operate", account="alice")


@pytest.fixture
async def bobs(client) -> dict[str, str]:
    """What bob has: a reservation with a task, one that was confirmed, and what a deduct has spent."""
    held = await reserve(client, "bob", taskId="t", provider="fal")
    part = await reserve(client, "bob")
    await do(client, "confirm", reservationId=part["reservation"]["id"], amount=5)
    spent = await do(client, "deduct", accountId="bob", amount=5)
    return {
        "held": held["reservation"]["id"],
        "ended": part["reservation"]["id"],
        "spent": spent["transaction"]["id"],
        "reserved": held["transaction"]["id"],
    }


def told(answer) -> tuple:
    return answer.status_code, answer.json(), {k: v for k, v in answer.headers.items() if k != "date"}


async def test_to_a_key_of_one_account_what_is_anothers_looks_like_what_does_not_exist(alice, bobs):
    shard, incarnation, _ = bobs["spent"].split("-")
    nothing = f"{shard}-{incarnation}-9999"
    for key in (None, "k"):
        for theirs in (bobs["held"], bobs["ended"]):
            for verb, more in (
                ("confirm", {}),
                ("confirm", {"amount": 1}),
                ("confirm", {"units": "1"}),
                ("cancel", {}),
                ("extend", {"ttlSeconds": 60}),
                ("refund", {}),
                ("refund", {"amount": 2**53 - 1}),
            ):
                pair = [
                    await ask(alice, verb, key=key, reservationId=each, **more) for each in (theirs, NOBODYS)
                ]
                assert told(pair[0]) == told(pair[1]), (verb, more)
                assert 404 == pair[0].status_code
                pair = [
                    await ask(alice, "batch", operations=[op(verb, reservationId=each, **more)])
                    for each in (theirs, NOBODYS)
                ]
                assert told(pair[0]) == told(pair[1]), (verb, more)
        for verb, more in (
            ("confirm", {}),
            ("confirm", {"units": 1}),
            ("cancel", {}),
            ("extend", {"ttlSeconds": 60}),
        ):
            pair = [
                await ask(alice, verb, key=key, taskId=each, provider="fal", **more) for each in ("t", "u")
            ]
            assert told(pair[0]) == told(pair[1]), (verb, more)
        for of in ("spent", "reserved"):
            pair = [await ask(alice, "refund", key=key, transactionId=each) for each in (bobs[of], nothing)]
            assert told(pair[0]) == told(pair[1]), of
    headers = {"idempotency-key": "k"}
    for theirs in (bobs["held"], bobs["ended"]):
        pair = [
            await alice.put(f"{CREDITS}/reservations/{each}/task", json={"taskId": "x"}, headers=headers)
            for each in (theirs, NOBODYS)
        ]
        assert told(pair[0]) == told(pair[1])
    for path, theirs, nobodys in (
        (f"{CREDITS}/reservations/%s", bobs["held"], NOBODYS),
        (f"{CREDITS}/transactions/%s", bobs["spent"], nothing),
        ("/api/images/by-task-id?provider=fal&taskId=%s", "t", "u"),
        (f"{CREDITS}/balance?accountId=%s", "bob", "nobody"),
        (f"{CREDITS}/accounts/%s", "bob", "nobody"),
        (f"{CREDITS}/accounts/%s/statement", "bob", "nobody"),
        (f"{CREDITS}/transactions?accountId=%s", "bob", "nobody"),
        (f"{CREDITS}/transactions?reservationId=%s", bobs["held"], NOBODYS),
        (f"{CREDITS}/transactions?taskId=%s", "t", "u"),
        (f"{CREDITS}/reservations?accountId=%s", "bob", "nobody"),
        (f"{CREDITS}/accounts?q=%s", "bob", "nobody"),
    ):
        pair = [await alice.get(path % each) for each in (theirs, nobodys)]
        assert told(pair[0]) == told(pair[1]), path


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
]  # fmt: skip


async def test_what_is_none_of_a_few_words_or_no_time_is_told_what_would_be_right(client):
    usual = {"accountId": "alice", "amount": 1}
    for method, path, body, field, said in WRONG:
        sent = usual | body if path in {"grant", "reserve"} else body
        answer = await client.request(method, f"{CREDITS}/{path}", json=sent)
        assert (400, field) == (answer.status_code, answer.json()["field"]), path
        assert said in answer.json()["detail"], path
