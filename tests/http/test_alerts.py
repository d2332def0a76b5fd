"""Alerts over HTTP, and what the doors count for them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.http.steps import CREDITS, ask, batch, do, grant, members, op, reserve

PATH = f"{CREDITS}/alerts"
AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)

ALERT = """
INSERT INTO alerts (id, rule, subject, level, state, since, resolved_at, value, threshold, message)
VALUES (gen_random_uuid(), $1, $2, $3, CASE WHEN $5::timestamptz IS NULL THEN 'firing' ELSE 'resolved' END,
  $4, $5, $6, $7, 'about alice')
"""


async def kept(database, rule, *, subject="", minutes=0, over=None, value=None, threshold=None) -> None:
    at = AT + timedelta(minutes=minutes)
    await database.execute(ALERT, rule, subject, "warning", at, over, value, threshold)


async def test_those_that_fire_come_first_and_each_newest_first(client, database):
    await kept(database, "fence", minutes=1)
    await kept(database, "backlog", minutes=2, value=0.75, threshold=0.5)
    await kept(database, "workers", minutes=9, over=AT + timedelta(hours=1), value=1.0, threshold=1.0)
    await kept(database, "backlog", minutes=8, over=AT + timedelta(hours=1), value=0.5, threshold=0.5)
    await kept(database, "webhook_conflict", subject="inbox:3", minutes=0)
    found = (await client.get(PATH)).json()["data"]
    assert ["backlog", "fence", "webhook_conflict", "workers", "backlog"] == [each["rule"] for each in found]
    first, *_ = found
    assert {
        "id": first["id"],
        "rule": "backlog",
        "level": "warning",
        "state": "firing",
        "since": "2026-01-02T03:06:00.000Z",
        "value": 0.75,
        "threshold": 0.5,
        "message": "about alice",
    } == first
    assert (None, None) == members(found[1], "value", "threshold")
    assert "inbox:3" == found[2]["subject"]
    assert ("2026-01-02T04:04:00.000Z", 1, 1) == members(found[3], "resolvedAt", "value", "threshold")


async def test_a_state_or_a_number_may_be_asked_for(client, database):
    await kept(database, "fence")
    await kept(database, "backlog", minutes=1)
    await kept(database, "workers", over=AT + timedelta(hours=1))

    async def rules(**asked) -> list[str]:
        return [each["rule"] for each in (await client.get(PATH, params=asked)).json()["data"]]

    assert ["backlog", "fence"] == await rules(state="firing")
    assert ["workers"] == await rules(state="resolved")
    assert ["backlog"] == await rules(limit=1)
    for wrong in ({"state": "over"}, {"limit": 0}, {"limit": 201}, {"rule": "fence"}):
        answer = await client.get(PATH, params=wrong)
        assert (400, "invalid_request") == (answer.status_code, answer.json()["code"]), wrong


async def test_only_operators_of_everything_may_look(client_of, stranger):
    for other in (await client_of("read", "spend", "grant"), await client_of("operate", account="alice")):
        assert 403 == (await other.get(PATH)).status_code
    assert 401 == (await stranger.get(PATH)).status_code


async def counted(app, database) -> dict[str, tuple[int, str]]:
    """What the doors have counted by now."""
    await app.state.parts.mishaps.write_now()
    rows = await database.fetch(
        "SELECT what, sum(number)::int AS number, max(last) AS last FROM mishaps GROUP BY what"
    )
    return {row["what"]: (row["number"], row["last"]) for row in rows}


async def test_who_ends_a_reservation_that_is_not_there_is_counted(app, client, database):
    nowhere = str(uuid4())
    assert 404 == (await ask(client, "confirm", taskId="job-7", provider="fal")).status_code
    assert 404 == (await ask(client, "cancel", reservationId=nowhere)).status_code
    await batch(client, op("confirm", reservationId=nowhere))
    number, last = (await counted(app, database))["reservation_not_found"]
    assert (3, f"confirm of reservation {nowhere}") == (number, last)


async def test_who_only_looks_or_is_right_is_not_counted(app, client, database):
    await grant(client)
    reserved = await reserve(client)
    named = reserved["reservation"]["id"]
    assert 404 == (await client.get(f"{CREDITS}/reservations/{uuid4()}")).status_code
    assert 404 == (await ask(client, "extend", reservationId=str(uuid4()), ttlSeconds=60)).status_code
    await do(client, "confirm", reservationId=named)
    await do(client, "confirm", reservationId=named)
    assert {} == await counted(app, database)


async def test_a_confirm_of_another_amount_is_counted_with_the_reservation(app, client, database):
    await grant(client)
    named = (await reserve(client, amount=40))["reservation"]["id"]
    await do(client, "confirm", reservationId=named, amount=30)
    await do(client, "confirm", reservationId=named, amount=31)
    await batch(client, op("confirm", reservationId=named, amount=32))
    number, last = (await counted(app, database))["confirm_conflict"]
    assert (2, f"reservation {named} of alice, 30 the first time") == (number, last)
