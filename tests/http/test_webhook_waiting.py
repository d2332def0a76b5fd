"""Callbacks that come before their task is known, and crashes between the steps: nothing is lost."""

import json
from contextlib import suppress

import pytest

from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerFenced, LedgerUnavailable
from app.ledger.operations import Confirm
from app.ledger.receipts import Receipt
from app.settings import Settings
from app.webhooks.inbox import Received
from app.webhooks.receiving import Rules
from app.webhooks.settling import Settlement
from persistence.inbox import retrying
from persistence.inbox.retrying import Position, retry_slice
from tests.http.doors import FAILED, SUCCEEDED, deliver, inbox, reserved, told, url, with_doors
from tests.http.steps import do, find, sums
from tests.integration.ledgers import journal_all


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


@pytest.fixture
def try_again(app, database, settings):
    """What the workers do every few seconds, once the journal has everything."""

    async def again() -> int:
        await journal_all(settings.database_url, settings.redis_url)
        parts = app.state.parts
        return await retry_slice(database, parts.ledger, parts.receiving._rules, 5.0)

    return again


async def bind(client, reservation: str, **body) -> None:
    answer = await client.put(f"/api/credits/reservations/{reservation}/task", json=body)
    assert 200 == answer.status_code, answer.text


async def test_a_callback_that_is_faster_than_the_task_waits_for_it(client, stranger, try_again):
    under, without = await reserved(client), await reserved(client)
    for task in ("under", "without", "nobody's"):
        assert "waiting" == await told(stranger, "sync", SUCCEEDED["sync"](task))
    assert 0 == await try_again()
    await bind(client, under["reservation"]["id"], taskId="under", provider="sync")
    await bind(client, without["reservation"]["id"], taskId="without")
    assert 2 == await try_again()
    assert 0 == await try_again()
    for made in (under, without):
        assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]
    assert {("under", "verified"), ("without", "verified"), ("nobody's", "waiting")} == {
        (row["taskId"], row["status"]) for row in await inbox(client)
    }


async def test_the_task_of_another_provider_wakes_nothing(client, stranger, try_again):
    made = await reserved(client)
    assert "waiting" == await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    await bind(client, made["reservation"]["id"], taskId="t", provider="fal")
    assert 0 == await try_again()
    assert "pending" == (await find(client, made["reservation"]["id"]))["status"]


async def test_one_that_waits_and_comes_again_is_acted_on_at_once(client, stranger):
    made = await reserved(client)
    body = SUCCEEDED["sync"]("t")
    assert ["waiting", "waiting"] == [await told(stranger, "sync", body) for _ in range(2)]
    await bind(client, made["reservation"]["id"], taskId="t", provider="sync")
    assert ["verified", "duplicate"] == [await told(stranger, "sync", body) for _ in range(2)]
    assert (50, 0, 4) == await sums(client)


async def test_what_is_not_known_for_a_day_is_unknown_and_may_still_be_acted_on(
    client, stranger, try_again, database
):
    assert "waiting" == await told(stranger, "sync", FAILED["sync"]("t"))
    await database.execute("UPDATE webhook_inbox SET received_at = now() - interval '23 hours 59 minutes'")
    await try_again()
    assert ["waiting"] == [row["status"] for row in await inbox(client)]
    await database.execute("UPDATE webhook_inbox SET received_at = now() - interval '24 hours 1 second'")
    await try_again()
    (row,) = await inbox(client)
    assert "unknown" == row["status"]
    made = await reserved(client, taskId="t", provider="sync")
    assert 0 == await try_again()
    answer = await client.post(f"/api/credits/webhooks/{row['id']}/replay")
    assert (200, "verified") == (answer.status_code, answer.json()["status"])
    assert "cancelled" == (await find(client, made["reservation"]["id"]))["status"]


class Died(Exception):
    """Nobody catches it."""


async def dies(*_: object, **__: object) -> None:
    raise Died


async def test_a_crash_after_the_row_is_made_good_by_the_next_delivery(
    client, stranger, monkeypatch, app, database, try_again
):
    made = await reserved(client, taskId="t", provider="sync")
    with monkeypatch.context() as crash:
        crash.setattr("app.webhooks.receiving.act", dies)
        assert 500 == (await deliver(stranger, "sync", SUCCEEDED["sync"]("t"))).status_code
    assert ["received"] == [row["status"] for row in await inbox(client)]
    assert 0 == await try_again()  # somebody may still be at it
    assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]


async def test_a_crash_after_the_confirm_is_made_good_by_the_workers(
    client, stranger, monkeypatch, app, database, try_again
):
    made = await reserved(client, taskId="t", provider="sync", onExpired="charge")
    with monkeypatch.context() as crash:
        crash.setattr(app.state.parts.receiving.inbox, "settle", dies)
        assert 500 == (await deliver(stranger, "sync", SUCCEEDED["sync"]("t"))).status_code
    before = await sums(client)
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]
    assert "received" == (await inbox(client))[0]["status"]
    await database.execute("UPDATE webhook_inbox SET tried_at = now() - interval '11 seconds'")
    assert 1 == await try_again()
    (row,) = await inbox(client)
    assert ("verified", made["reservation"]["id"], 50) == (row["status"], row["reservationId"], row["amount"])
    assert before == await sums(client)


async def test_a_ledger_that_does_not_answer_is_asked_again(
    client, stranger, monkeypatch, app, database, try_again
):
    made = await reserved(client, taskId="t", provider="sync")

    async def away(*_: object) -> None:
        raise LedgerUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(app.state.parts.ledger, "confirm", away)
        answer = await deliver(stranger, "sync", SUCCEEDED["sync"]("t"))
        assert (503, "ledger_unavailable") == (answer.status_code, answer.json()["code"])
        assert "retry-after" in answer.headers
    await database.execute("UPDATE webhook_inbox SET tried_at = now() - interval '11 seconds'")
    assert 1 == await try_again()
    assert "confirmed" == (await find(client, made["reservation"]["id"]))["status"]


async def test_our_own_id_at_a_callback_url_waits_too(client, stranger, try_again, database):
    """What Redis and the journal have lost by now: a ledger that was rolled back."""
    made = await reserved(client, provider="luma")
    lost = made["reservation"]["id"][:-4] + ("0000" if made["reservation"]["id"][-4:] != "0000" else "1111")
    body = SUCCEEDED["luma"]("t")
    assert "waiting" == await told(stranger, "luma", body, path=url("luma", lost), signed=False)
    assert 0 == await try_again()


async def test_only_the_first_to_say_what_came_of_it_is_heard(app, database):
    kept = app.state.parts.receiving.inbox
    received = Received(provider="sync", named="t", outcome="failed", word="FAILED", task="t", payload="{}")
    row = await kept.receive(received)
    assert ("received", row.id) == (row.status, (await kept.receive(received)).id)
    await kept.settle(row.id, received, Settlement(status="verified", transaction="0-1-1"))
    await kept.settle(row.id, received, Settlement(status="conflict", why="later"))
    await kept.keep(received, Settlement(status="refused", why="later still"))
    shown = await kept.row(row.id)
    assert ("verified", None, "0-1-1", 3) == (shown.status, shown.why, shown.transaction, shown.deliveries)


async def test_who_listens_is_told_what_the_provider_said_once(client, stranger, database):
    await database.execute(
        "INSERT INTO event_endpoints (url, secret, by, created_at) VALUES ('https://x', 's', 't', now())"
    )
    made = await reserved(client, taskId="t", provider="sync", resourceId="image-1")
    await do(client, "grant", accountId="alice", amount=1)
    for _ in range(2):
        await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    assert "conflict" == await told(stranger, "sync", FAILED["sync"]("t"))
    assert "waiting" == await told(stranger, "sync", FAILED["sync"]("nobody's"))
    (event,) = await database.fetch("SELECT body FROM events WHERE type = 'provider.finished'")
    data = json.loads(event["body"])["data"]
    (row,) = await inbox(client, status="verified")
    assert {
        "provider": "sync",
        "reservationId": made["reservation"]["id"],
        "accountId": "alice",
        "taskId": "t",
        "resourceId": "image-1",
        "outcome": "succeeded",
        "transactionId": row["transactionId"],
        "payload": SUCCEEDED["sync"]("t"),
    } == data


async def test_slices_that_end_early_look_at_every_row_in_turn(client, stranger, app, database, monkeypatch):
    """Many wait, and a slice has time for few: the next one goes on, and begins anew at the end."""
    monkeypatch.setattr(retrying, "LOOKED_MAX", 2)
    for number in range(5):
        assert "waiting" == await told(stranger, "sync", SUCCEEDED["sync"](f"nobody's-{number}"))
    ids = [int(row["id"]) for row in await inbox(client)]
    position, seen = Position(), []
    looked_at = retrying._ready

    async def one_look(pool, before):
        if seen and seen[-1] is not None:
            seen.append(None)
            raise Died
        seen.append(before)
        return await looked_at(pool, before)

    monkeypatch.setattr(retrying, "_ready", one_look)
    for _ in range(3):
        with suppress(Died):
            await retry_slice(database, app.state.parts.ledger, Rules({}), 5.0, position)
    assert [ids[1], ids[3]] == [each for each in seen if each is not None][1:3]
    assert retrying._ID_MAX == position.before


async def test_what_is_given_up_at_once_is_bounded_and_the_oldest_are_first(
    client, stranger, try_again, database, monkeypatch
):
    monkeypatch.setattr(retrying, "GONE_MAX", 2)
    for number in range(4):
        await told(stranger, "sync", SUCCEEDED["sync"](f"t-{number}"))
    await database.execute(
        "UPDATE webhook_inbox SET received_at = now() - interval '25 hours' WHERE task <> 't-3'"
    )
    for gone in (["t-1", "t-0"], ["t-2", "t-1", "t-0"], ["t-2", "t-1", "t-0"]):
        await try_again()
        assert gone == [row["taskId"] for row in await inbox(client, status="unknown")]


async def test_what_waits_for_a_fenced_shard_holds_up_no_other(
    client, stranger, app, database, try_again, monkeypatch
):
    made = [await reserved(client) for _ in range(3)]
    for number, each in enumerate(made):
        await told(stranger, "sync", SUCCEEDED["sync"](f"t-{number}"))
        await bind(client, each["reservation"]["id"], taskId=f"t-{number}", provider="sync")
    confirm = app.state.parts.ledger.confirm

    async def fenced(operation: Confirm) -> Receipt:
        if operation.reservation == made[1]["reservation"]["id"]:
            raise LedgerFenced
        return await confirm(operation)

    with monkeypatch.context() as fence:
        fence.setattr(app.state.parts.ledger, "confirm", fenced)
        assert 2 == await try_again()
    assert ["verified", "waiting", "verified"] == [row["status"] for row in await inbox(client)]
    assert 1 == await try_again()


async def test_what_came_of_it_waits_for_postgresql_within_bounds_and_the_workers_find_the_rest(
    client, stranger, app, database, try_again, monkeypatch
):
    """PostgreSQL takes what comes in, and then does not answer."""
    receiving = app.state.parts.receiving
    monkeypatch.setattr("app.webhooks.receiving.LATER_MAX", 2)

    async def away(*_: object) -> None:
        raise BackingUnavailable

    for number in range(4):
        await reserved(client, taskId=f"t-{number}", provider="sync")
    with monkeypatch.context() as outage:
        outage.setattr(receiving.inbox, "settle", away)
        for number in range(4):
            assert "verified" == await told(stranger, "sync", SUCCEEDED["sync"](f"t-{number}"))
        assert 2 == len(receiving._later)
    await receiving.write_now()
    await database.execute("UPDATE webhook_inbox SET tried_at = now() - interval '11 seconds'")
    assert 2 == await try_again()
    assert {"verified"} == {row["status"] for row in await inbox(client)}
    assert 200 == (await sums(client))[0]
