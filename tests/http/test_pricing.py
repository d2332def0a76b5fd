"""Credits by units: priced by the card of the moment, and for a reservation by the price that it froze."""

import asyncio
from datetime import datetime

import httpx

from app.ledger import keys
from persistence.backing import decode_entry
from tests.http.conftest import SHARDS, _client, running
from tests.http.refused import is_invalid
from tests.http.serving import create_app
from tests.http.steps import grant, reserve
from tests.http.test_health import client_of, own  # noqa: F401
from tests.http.test_models import MODELS, QUOTE, put, quote


async def post(client: httpx.AsyncClient, verb: str, key: str | None = None, **body) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    return await client.post(f"/api/credits/{verb}", json=body, headers=headers)


async def by_units(client: httpx.AsyncClient, verb: str, units, model: str = "lip-sync", **more) -> dict:
    answer = await post(client, verb, accountId="alice", modelId=model, units=units, **more)
    assert 201 == answer.status_code, answer.text
    return answer.json()


def seconds_of(made: dict) -> float:
    shown = made["reservation"]
    span = datetime.fromisoformat(shown["expiresAt"]) - datetime.fromisoformat(shown["createdAt"])
    return span.total_seconds()


async def entries(redis) -> list:
    """All entries of all shards, in no order."""
    found = [await redis.xrange(keys.journal(shard)) for shard in range(SHARDS)]
    return [decode_entry(fields[b"entry"]) for shard in found for _, fields in shard]


async def test_three_videos_at_once_cost_77_of_100_credits(client):
    """Seed 004: 50, 12 and 12 seconds cost 51, 13 and 13, whichever is first."""
    await put(client)
    await grant(client, amount=100)
    made = await asyncio.gather(*(by_units(client, "deduct", seconds) for seconds in (50, 12, "12.0")))
    assert [51, 13, 13] == [each["transaction"]["amount"] for each in made]
    assert 23 == (await client.get("/api/credits/balance?accountId=alice")).json()["available"]


async def test_what_was_charged_says_by_which_price_in_the_journal_for_good(client, redis):
    await put(client, ttlSeconds=60)
    await grant(client)
    await by_units(client, "deduct", "12.50")
    await by_units(client, "reserve", 50)
    prices = {each.kind: each.price for each in await entries(redis) if each.price is not None}
    assert {"deducted", "reserved"} == set(prices)
    of = {
        name: (price.model, price.version, price.base, price.price, price.units)
        for name, price in prices.items()
    }
    assert ("lip-sync", 1, "1", "1", "12.5") == of["deducted"]
    assert ("lip-sync", 1, "1", "1", "50") == of["reserved"]


async def test_a_price_that_changes_touches_nothing_that_is_reserved(client):
    await put(client)
    await grant(client)
    made = await by_units(client, "reserve", 50)
    assert 51 == made["reservation"]["held"]
    await put(client, base=0, price=100)
    named = made["reservation"]["id"]
    shown = (await client.get(f"/api/credits/reservations/{named}")).json()
    assert 1 == shown["price"]["version"]
    confirmed = (await post(client, "confirm", reservationId=named, units="11.5")).json()
    assert [13, 38] == [confirmed["reservation"][name] for name in ("captured", "released")]
    again = await post(client, "confirm", reservationId=named, units="11.5")
    assert ("true", None) == tuple(
        again.headers.get(name) for name in ("idempotency-replayed", "lastro-conflict")
    )
    other = await post(client, "confirm", reservationId=named, units=50)
    assert "amount" == other.headers["lastro-conflict"]
    assert 1200 == (await quote(client, 12))["credits"]


async def test_parts_are_captured_by_the_frozen_price_too(client):
    await put(client, base=0, price="0.5")
    await grant(client)
    made = await by_units(client, "reserve", 100)
    named = made["reservation"]["id"]
    await put(client, price=7)
    first = await post(client, "confirm", "one", reservationId=named, units=33, final=False)
    assert [17, 33] == [first.json()["reservation"][name] for name in ("captured", "held")]
    last = await post(client, "confirm", "two", reservationId=named, units=2)
    assert [18, 32] == [last.json()["reservation"][name] for name in ("captured", "released")]


async def test_a_reservation_without_a_price_is_confirmed_by_amount_alone(client):
    await put(client)
    await grant(client)
    named = (await reserve(client, modelId="lip-sync"))["reservation"]["id"]
    answer = await post(client, "confirm", reservationId=named, units=5)
    assert is_invalid(answer)
    assert "Name an amount" in answer.json()["detail"]
    assert "pending" == (await client.get(f"/api/credits/reservations/{named}")).json()["status"]


async def test_units_that_come_to_nothing_are_refused_and_say_how_to_release_all(client):
    await put(client, base=0)
    await grant(client)
    assert is_invalid(await post(client, "deduct", accountId="alice", modelId="lip-sync", units=0))
    named = (await by_units(client, "reserve", 5))["reservation"]["id"]
    answer = await post(client, "confirm", reservationId=named, units=0)
    assert is_invalid(answer)
    assert "Amount 0, or cancel, releases all." in answer.json()["detail"]


async def test_a_reservation_holds_as_long_as_its_model_says_unless_it_says_itself(client):
    await put(client, ttlSeconds=60)
    await put(client, "none")
    await grant(client)
    assert 60 == seconds_of(await by_units(client, "reserve", 1))
    assert 60 == seconds_of(await reserve(client, amount=1, modelId="lip-sync"))
    assert 90 == seconds_of(await by_units(client, "reserve", 1, ttlSeconds=90))
    assert 1800 == seconds_of(await by_units(client, "reserve", 1, "none"))
    assert 1800 == seconds_of(await reserve(client, amount=1, modelId="not/on-the-card"))
    assert 1800 == seconds_of(await reserve(client, amount=1))


async def test_a_request_that_is_repeated_is_answered_alike_at_whatever_price(client):
    await put(client)
    await grant(client)
    first = await post(client, "deduct", "video", accountId="alice", modelId="lip-sync", units=50)
    await put(client, price=2)
    again = await post(client, "deduct", "video", accountId="alice", modelId="lip-sync", units=50)
    assert first.json()["transaction"] == again.json()["transaction"]
    assert "true" == again.headers["idempotency-replayed"]
    other = await post(client, "deduct", "video", accountId="alice", modelId="lip-sync", units=51)
    assert (422, "idempotency_mismatch") == (other.status_code, other.json()["code"])


async def test_an_unknown_model_is_not_remembered_under_the_key(client):
    await grant(client)
    body = {"accountId": "alice", "modelId": "lip-sync", "units": 50}
    for verb in ("deduct", "reserve"):
        refused = await post(client, verb, verb, **body)
        assert (404, "model_not_found") == (refused.status_code, refused.json()["code"])
    await put(client)
    for verb in ("deduct", "reserve"):
        assert 201 == (await post(client, verb, verb, **{**body, "units": 5})).status_code


async def test_a_new_model_is_priced_in_every_process_at_once_and_a_new_price_within_5_seconds(
    client, settings
):
    async with running(elsewhere := create_app(settings)):
        token = client.headers["authorization"].removeprefix("Bearer ")
        async with _client(elsewhere, token) as other:
            assert 404 == (await post(other, "quote", modelId="lip-sync", units=50)).status_code
            await put(client)
            assert 51 == (await quote(other, 50))["credits"]
            await put(client, price=2)
            async with asyncio.timeout(5):
                while (await quote(other, 50))["credits"] != 101:  # noqa: ASYNC110 (the answer is the event)
                    await asyncio.sleep(0.05)


async def test_credits_move_by_units_while_postgres_is_away(own, own_postgres):  # noqa: F811
    settings, token = own
    async with running(app := create_app(settings)), client_of(app, token) as client:
        await put(client, ttlSeconds=60)
        await grant(client)
        own_postgres.kill()
        assert 51 == (await by_units(client, "deduct", 50))["transaction"]["amount"]
        made = await by_units(client, "reserve", 12)
        assert 60 == seconds_of(made)
        confirmed = await post(client, "confirm", reservationId=made["reservation"]["id"], units=5)
        assert 6 == confirmed.json()["reservation"]["captured"]
        for unknown in (
            await post(client, "deduct", accountId="alice", modelId="nobody", units=1),
            await client.post(QUOTE, json={"modelId": "nobody", "units": 1}),
            await client.get(MODELS),
            await client.put(MODELS, json={"modelId": "lip-sync", "base": 1, "price": 2}),
        ):
            assert (503, "ledger_unavailable") == (unknown.status_code, unknown.json()["code"])


async def test_a_process_that_has_not_seen_the_card_prices_nothing_and_moves_what_needs_no_price(app, client):
    """As after a start without PostgreSQL, for whoever is known all the same."""
    await put(client, ttlSeconds=60)
    await grant(client)
    rates = app.state.parts.rates

    async def away() -> bool:
        return False

    rates.refresh, rates.card = away, type(rates.card)()
    for unseen in (
        await post(client, "deduct", accountId="alice", modelId="lip-sync", units=1),
        await post(client, "reserve", accountId="alice", modelId="lip-sync", amount=1),
    ):
        assert (503, "rate_card") == (unseen.status_code, unseen.json()["cause"])
    await reserve(client, amount=1, modelId="lip-sync", ttlSeconds=5)
    await reserve(client, amount=1)
    assert 201 == (await post(client, "deduct", accountId="alice", modelId="lip-sync", amount=1)).status_code
