"""What was answered before comes first: before a price, before a model, and while PostgreSQL is away."""

import pytest

from tests.http.conftest import running
from tests.http.serving import create_app
from tests.http.steps import CREDITS, ask, batch, deduct, do, grant, is_refused, members, op, sums
from tests.http.test_health import client_of as client_over
from tests.http.test_health import own  # noqa: F401 - a fixture

OLD = "01000000-0000-7000-8000-000000000000"
"""A key that was made long ago, and holds for ever."""


async def test_a_batch_that_nobody_can_price_now_is_503_as_a_whole(app, client):
    await grant(client)
    await unread(app.state.parts.rates)
    unpriced = op("deduct", accountId="alice", modelId="m", units=1)
    for operations, atomic in (([unpriced, unpriced], False), ([deduct(1), unpriced], True)):
        answer = await ask(client, "batch", operations=operations, atomic=atomic)
        assert (503, "rate_card") == (answer.status_code, answer.json()["cause"])
        assert "retry-after" in answer.headers
    first, second = await batch(client, unpriced, deduct(1))
    assert (503, "rate_card", 201) == (first["status"], first["cause"], second["status"])


BY_UNITS = {"accountId": "alice", "modelId": "m", "units": 5}


LARGEST = 2**53 - 1


async def unread(rates) -> None:
    """As in a process that has never heard of PostgreSQL."""

    async def away() -> bool:
        return False

    rates.refresh, rates.card = away, type(rates.card)()


@pytest.mark.parametrize("verb", ["deduct", "reserve"])
@pytest.mark.parametrize("by_now", [0, LARGEST, None])
async def test_a_replay_wins_when_its_units_could_not_be_priced_any_more(app, client, verb, by_now):
    await grant(client)
    put = f"{CREDITS}/models"
    await client.put(put, json={"modelId": "m", "base": 0, "price": 1})
    first = await do(client, verb, key="done", **BY_UNITS)
    too_many = BY_UNITS | {"units": 500}
    refused = await is_refused(client, verb, 402, "insufficient_credits", key="refused", **too_many)
    if by_now is None:
        await unread(app.state.parts.rates)
    else:
        await client.put(put, json={"modelId": "m", "base": 0, "price": by_now})
    again = await ask(client, verb, key="done", **BY_UNITS)
    assert "true" == again.headers["idempotency-replayed"]
    assert first == again.json()
    for atomic in (False, True):
        operations = [op(verb, idempotencyKey="done", **BY_UNITS)]
        (result,) = (await do(client, "batch", operations=operations, atomic=atomic))["results"]
        assert (True, first["transaction"]) == members(result, "replayed", "transaction")
    assert refused == (await ask(client, verb, key="refused", **too_many)).json()
    await is_refused(client, verb, 422, "idempotency_mismatch", key="done", **(BY_UNITS | {"units": 6}))
    new = await ask(client, verb, key="new", **BY_UNITS)
    assert (503 if by_now is None else 400) == new.status_code, "it is not priced, and so not carried out"
    assert first["transaction"]["version"] == (await sums(client))[2]


async def test_a_used_key_is_told_before_a_model_that_does_not_exist(client):
    await grant(client)
    await do(client, "deduct", key="k", accountId="alice", amount=5)
    await is_refused(client, "deduct", 422, "idempotency_mismatch", key="k", **BY_UNITS)
    await is_refused(client, "deduct", 404, "model_not_found", key="new", **BY_UNITS)


async def test_what_redis_remembers_is_answered_again_while_postgres_is_away(own, own_postgres):  # noqa: F811
    settings, token = own
    async with running(app := create_app(settings)), client_over(app, token) as client:
        put = f"{CREDITS}/models"
        await client.put(put, json={"modelId": "m", "base": 0, "price": 1})
        first = []
        asked = [
            ("grant", OLD, {"accountId": "alice", "amount": 100}),
            ("deduct", "k", BY_UNITS),
            ("adjust", "k", {"accountId": "bob", "amount": 5, "reason": "why"}),
            ("refund", "r", {"transactionId": None, "amount": 2}),
        ]
        await grant(client, "bob")
        for verb, key, body in asked:
            if verb == "refund":
                body["transactionId"] = first[1]["id"]
            first.append((await do(client, verb, key=key, **body))["transaction"])
        await client.put(put, json={"modelId": "m", "base": 0, "price": 0})
        own_postgres.kill()
        for (verb, key, body), transaction in zip(asked, first, strict=True):
            again = await ask(client, verb, key=key, **body)
            assert transaction == again.json()["transaction"], again.text
            never = OLD.replace("8000", "9000")
            await is_refused(client, verb, 503, "ledger_unavailable", key=never, **body)
        assert 400 == (await ask(client, "deduct", key="new", **BY_UNITS)).status_code
