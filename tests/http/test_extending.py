"""Extend: a job that needs more time gets it."""

from datetime import datetime, timedelta

from tests.http.steps import ask, do, find, grant, is_refused, members, reserve, sums


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_deadline_becomes_now_and_as_many_seconds(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]
    await clock.advance(59_000)
    done = await do(client, "extend", reservationId=held["id"], ttlSeconds=30)
    assert at(held["expiresAt"]) + timedelta(seconds=29) == at(done["reservation"]["expiresAt"])
    assert ("pending", 1) == members(done["reservation"], "status", "extensions")
    assert ("extended", 0, []) == members(done["transaction"], "kind", "amount", "legs")
    assert (60, 40, 3) == await sums(client)
    await clock.advance(29_000)
    assert "pending" == (await find(client, held["id"]))["status"]
    await clock.advance(1_000)
    assert "cancelled" == (await find(client, held["id"]))["status"]


async def test_the_deadline_never_becomes_earlier_but_may_stay(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]
    problem = await is_refused(
        client, "extend", 422, "invalid_extension", reservationId=held["id"], ttlSeconds=59
    )
    assert held["expiresAt"] == problem["expiresAt"]
    assert at(held["expiresAt"]) - timedelta(seconds=1) == at(problem["latest"])
    same = await do(client, "extend", reservationId=held["id"], ttlSeconds=60)
    assert held["expiresAt"] == same["reservation"]["expiresAt"]


async def test_a_task_extends_and_is_still_found_when_the_first_deadline_is_long_gone(client, clock, journal):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60, taskId="t", provider="fal"))["reservation"]["id"]
    for _ in range(3):
        await clock.advance(50_000)
        done = await do(client, "extend", taskId="t", provider="fal", ttlSeconds=86_400)
    assert (held, 3, "t") == members(done["reservation"], "id", "extensions", "taskId")
    assert "t" == done["transaction"]["taskId"]
    await do(client, "confirm", taskId="t", provider="fal")


async def test_only_what_is_pending_can_be_extended(client, clock):
    await grant(client)
    confirmed, cancelled, expired = [
        (await reserve(client, amount=1, ttlSeconds=60))["reservation"]["id"] for _ in range(3)
    ]
    await do(client, "confirm", reservationId=confirmed)
    await do(client, "cancel", reservationId=cancelled, cause="failed")
    await clock.advance(60_000)
    for held, status, code in (
        (confirmed, 409, "reservation_confirmed"),
        (cancelled, 409, "reservation_cancelled"),
        (expired, 410, "reservation_expired"),
    ):
        await is_refused(client, "extend", status, code, reservationId=held, ttlSeconds=60)


async def test_no_more_than_a_hundred_extensions(client, clock):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    for _ in range(100):
        await do(client, "extend", reservationId=held, ttlSeconds=1800)
    problem = await is_refused(client, "extend", 422, "limit_reached", reservationId=held, ttlSeconds=1800)
    assert ("extensions", 100) == members(problem, "what", "limit")
    await do(client, "confirm", reservationId=held)


async def test_under_its_key_an_extension_is_made_once(client, clock):
    await grant(client)
    held = (await reserve(client, ttlSeconds=60))["reservation"]["id"]
    first = await ask(client, "extend", key="k", reservationId=held, ttlSeconds=60)
    await clock.advance(30_000)
    again = await ask(client, "extend", key="k", reservationId=held, ttlSeconds=60)
    assert (200, "true") == (again.status_code, again.headers["idempotency-replayed"])
    assert first.json()["transaction"] == again.json()["transaction"]
    assert 1 == again.json()["reservation"]["extensions"]
    await is_refused(
        client, "extend", 422, "idempotency_mismatch", key="k", reservationId=held, ttlSeconds=61
    )


async def test_the_reservation_is_named_once(client):
    await grant(client)
    held = (await reserve(client, taskId="t"))["reservation"]["id"]
    for named in ({}, {"reservationId": held, "taskId": "t"}, {"provider": "fal"}, {"accountId": "alice"}):
        await is_refused(client, "extend", 400, "invalid_request", ttlSeconds=60, **named)
    await is_refused(client, "extend", 400, "invalid_request", reservationId=held)
