"""Keys in a batch: under the same key it is the same request, whether it comes alone or with others."""

import pytest

from tests.http.steps import ask, batch, deduct, do, grant, members, op, reserve, sums


async def test_one_without_a_key_has_that_of_the_request_and_its_place(client):
    await grant(client)
    operations = [deduct(1), deduct(2, idempotencyKey="mine"), deduct(3)]
    first = await batch(client, *operations, key="k")
    again = await batch(client, *operations, key="k")
    assert [True] * 3 == [each["replayed"] for each in again]
    assert [each["transaction"] for each in first] == [each["transaction"] for each in again]
    assert (94, 0, 4) == await sums(client)
    for key, amount in (("k#0", 1), ("mine", 2), ("k#2", 3)):
        alone = await ask(client, "deduct", key=key, accountId="alice", amount=amount)
        assert "true" == alone.headers["idempotency-replayed"], key
    fresh = await ask(client, "deduct", key="k#1", accountId="alice", amount=2)
    assert "idempotency-replayed" not in fresh.headers, "that one had a key of its own"


async def test_without_any_key_each_is_a_new_operation(client):
    await grant(client)
    for _ in range(2):
        assert [False, False] == [each["replayed"] for each in await batch(client, deduct(1), deduct(1))]
    assert 96 == (await sums(client))[0]


async def test_the_same_key_twice_in_a_batch_is_one_operation(client):
    await grant(client)
    results = await batch(
        client,
        deduct(5, idempotencyKey="k"),
        deduct(5, idempotencyKey="k"),
        deduct(6, idempotencyKey="k"),
    )
    assert [(201, False), (201, True)] == [members(each, "status", "replayed") for each in results[:2]]
    assert results[0]["transaction"] == results[1]["transaction"]
    assert (422, "idempotency_mismatch") == members(results[2], "status", "code")
    assert 95 == (await sums(client))[0]


SAME = {
    "grant": {
        "accountId": "alice",
        "amount": 5,
        "bucket": "default",
        "expiresAt": "2100-01-01T01:00:00+01:00",
    },
    "deduct": {"accountId": "alice", "amount": 5, "metadata": {"operation": "deduct", "b": "c"}},
    "reserve": {"accountId": "alice", "amount": 5, "ttlSeconds": 1800, "overCapture": "reject"},
    "adjust": {"accountId": "alice", "amount": -5, "reason": "why", "short": "reject"},
}


@pytest.mark.parametrize("verb", SAME)
async def test_under_the_same_key_it_is_the_same_request_alone_or_in_a_batch(client, verb):
    await grant(client)
    body = SAME[verb]
    alone = await do(client, verb, key="alone first", **body)
    (result,) = await batch(client, op(verb, **body, idempotencyKey="alone first"))
    assert (True, alone["transaction"]) == members(result, "replayed", "transaction")
    (result,) = await batch(client, op(verb, **body, idempotencyKey="batch first"))
    again = await ask(client, verb, key="batch first", **body)
    assert result["transaction"] == again.json()["transaction"]
    assert "true" == again.headers["idempotency-replayed"]
    other = {"reason": "another"} if verb == "adjust" else {"amount": 6}
    (result,) = await batch(client, op(verb, **(body | other), idempotencyKey="batch first"))
    assert "idempotency_mismatch" == result["code"]


async def test_what_settles_is_the_same_request_alone_or_in_a_batch_too(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    for verb, body in (
        ("extend", {"reservationId": held, "ttlSeconds": 7200}),
        ("confirm", {"reservationId": held, "amount": 10, "final": False}),
        ("cancel", {"reservationId": held, "cause": "requested"}),
        ("refund", {"reservationId": held, "amount": 10}),
    ):
        alone = await do(client, verb, key=f"a {verb}", **body)
        (result,) = await batch(client, op(verb, **body, idempotencyKey=f"a {verb}"))
        assert (True, alone["transaction"]) == members(result, "replayed", "transaction"), verb


async def test_a_refusal_is_kept_under_its_key_in_a_batch_too(client):
    await grant(client, amount=1)
    (first,) = await batch(client, deduct(5), key="k")
    assert "use a new key to try again" in first["detail"]
    await grant(client, amount=100)
    (again,) = await batch(client, deduct(5), key="k")
    assert {**first, "replayed": True} == again
    alone = await ask(client, "deduct", key="k#0", accountId="alice", amount=5)
    assert {name: value for name, value in first.items() if name != "replayed"} == alone.json()
