"""Reservations: listed by age and model, shown whole, ended by hand as it was foreseen."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.ongoing import OpenOf
from persistence.dashboard.ongoing import PostgresOngoing
from tests.dashboard.browsing import HOME
from tests.dashboard.test_accounts import see
from tests.http.steps import balance, do, find

LIST = f"{HOME}/reservations"


NOTED = ["act", "by", "reason", "account", "reservation", "detail", "outcome"]


def act(reservation: str, what: str) -> str:
    return f"{LIST}/{reservation}/{what}"


@pytest.fixture
async def held(client) -> str:
    """A reservation of 40 of alice's 100."""
    await do(client, "grant", accountId="alice", amount=100)
    made = await do(client, "reserve", accountId="alice", amount=40, modelId="kling-v2", taskId="t-1",
                    provider="kling", metadata={"scene": "7"})  # fmt: skip
    return made["reservation"]["id"]


async def foresee(browser, reservation, what, **fields):
    """The page that tells what would happen."""
    page = await browser.get(f"{LIST}/{reservation}")
    return await browser.send(page.form(act(reservation, what)), reason="by hand", **fields)


async def test_without_any_reservation_the_page_says_where_they_come_from(operator):
    page = await operator.get(LIST)
    assert "POST /api/credits/reserve" in page.text


async def test_open_reservations_are_counted_by_model_and_age(client, database, journal, held, operator):
    await do(client, "reserve", accountId="alice", amount=10, modelId="flux")
    await do(client, "reserve", accountId="alice", amount=5)
    await see(operator, LIST, "kling-v2", "flux", "no model")
    now = datetime.now(UTC)
    await database.execute(
        "UPDATE reservations SET created_at = $1, expires_at = $2 WHERE model = 'flux'",
        now - timedelta(minutes=30), now - timedelta(minutes=1),
    )  # fmt: skip
    assert [
        OpenOf(model="kling-v2", count=1, held=40, overdue=0, by_age=[1, 0, 0, 0]),
        OpenOf(model="flux", count=1, held=10, overdue=1, by_age=[0, 0, 1, 0]),
        OpenOf(model=None, count=1, held=5, overdue=0, by_age=[1, 0, 0, 0]),
    ] == await PostgresOngoing(database).open_by_model()
    page = await operator.get(LIST)
    assert [given for tag, given in page.tags if tag == "tr" and given.get("class") == "late"]
    overdue = await operator.get(f"{LIST}?status=overdue")
    assert "overdue" in overdue.text
    shown = [link for link in overdue.links() if link.startswith(f"{LIST}/0")]
    assert 1 == len(shown)


async def test_the_list_is_filtered_by_what_is_asked_for(client, journal, held, operator):
    other = (await do(client, "reserve", accountId="alice", amount=1, modelId="flux"))["reservation"]["id"]
    await do(client, "cancel", reservationId=other)
    await see(operator, f"{LIST}?status=cancelled", "flux")
    for query, found in (
        ("", {held}), ("?status=all", {held, other}), ("?status=cancelled", {other}), ("?model=flux", set()),
        ("?model=kling-v2&account=alice", {held}), ("?account=bob", set()), ("?age=minute", {held}),
        ("?age=older", set()), ("?status=&model=&account=&age=", {held}), ("?status=confirmed", set()),
    ):  # fmt: skip
        page = await operator.get(LIST + query)
        assert 200 == page.status, query
        shown = {link.rpartition("/")[2] for link in page.links() if link.startswith(f"{LIST}/0")}
        assert found == shown, query
    for wrong in ("status=x", "age=old", "model=" + "m" * 65, "x=1", "cursor=nonsense", "account=a%20b"):
        assert 400 == (await operator.get(f"{LIST}?{wrong}")).status, wrong


async def test_one_is_found_by_its_id_and_by_its_providers_task(operator, held, journal):
    assert held in (await operator.get(f"{LIST}/find?id={held.upper()}")).text
    page = await see(operator, f"{LIST}/find?id=t-1", held)
    for told in ("kling-v2", "t-1", "40 of 40", "scene", "7", "alice", "open", "reserved"):
        assert told in page.text, told
    nothing = await operator.get(f"{LIST}/find?id=%3Cb%3E")
    assert 404 == nothing.status
    assert "&lt;b&gt;" in nothing.html


@pytest.mark.parametrize("text", ["%00", "a%00b", "a%0ab", "x" * 256])
async def test_what_can_be_no_task_is_a_mistake_of_whoever_looks_for_it(operator, text):
    assert 400 == (await operator.get(f"{HOME}/reservations/find?id={text}")).status


async def test_one_that_nobody_knows_is_not_found(operator):
    page = await operator.get(f"{LIST}/01a1ffa5-4956-7003-abd8-99c175348713")
    assert (404, True) == (page.status, "reservation_not_found" in page.text)
    assert 400 == (await operator.get(f"{LIST}/nonsense")).status


@pytest.mark.parametrize(
    ("what", "fields", "told", "status", "left"),
    [
        ("confirm", {}, "60 60", "confirmed", 60),
        ("confirm", {"amount": "15"}, "60 85", "confirmed", 85),
        ("confirm", {"amount": "50", "over": "charge"}, "60 50", "confirmed", 50),
        ("confirm", {"amount": "50", "over": "cap"}, "60 60", "confirmed", 60),
        ("cancel", {"cause": "failed"}, "60 100", "cancelled", 100),
    ],
)
async def test_it_ends_as_was_foreseen(operator, client, held, what, fields, told, status, left):
    seen = await foresee(operator, held, what, **fields)
    assert f"Available {told}" in seen.text
    assert "of account alice" in seen.text
    assert "refused" not in seen.text
    assert "pending" == (await find(client, held))["status"], "it was only looked at"
    done = await operator.send(seen.form(act(held, what)))
    assert f"Done: {what}" in done.text
    assert (status, left) == ((await find(client, held))["status"], (await balance(client))["available"])


async def test_more_than_is_held_is_refused_where_that_was_chosen(operator, client, held):
    seen = await foresee(operator, held, "confirm", amount="50", over="reject")
    assert "50 are asked for and 40 are there: it would be refused." in seen.text
    done = await operator.send(seen.form(act(held, "confirm")))
    assert "Refused, and nothing was changed" in done.text
    assert "pending" == (await find(client, held))["status"]


async def test_it_is_given_more_time(operator, client, held):
    before = (await find(client, held))["expiresAt"]
    seen = await foresee(operator, held, "extend", minutes="600")
    await operator.send(seen.form(act(held, "extend")))
    after = (await find(client, held))["expiresAt"]
    gained = datetime.fromisoformat(after) - datetime.fromisoformat(before)
    assert timedelta(minutes=569) < gained < timedelta(minutes=571)
    assert "earlier than its deadline" in (await foresee(operator, held, "extend", minutes="5")).text


async def test_what_was_done_stands_in_audit_and_journal_with_who_and_why(
    operator, client, held, database, journal
):
    for what, fields in (("extend", {"minutes": "60"}), ("confirm", {"amount": "15"})):
        seen = await foresee(operator, held, what, **fields)
        await operator.send(seen.form(act(held, what)))
    rows = await database.fetch("SELECT * FROM operator_actions ORDER BY id")
    assert [
        ("extend", "dashboard:ana", "by hand", "alice", held, "60 min from then", "done"),
        ("confirm", "dashboard:ana", "by hand", "alice", held, "15 credits", "done"),
    ] == [tuple(str(row[name]) for name in NOTED) for row in rows]
    told: list[dict] = []
    async with asyncio.timeout(30):
        while len(told) < 3:
            told = (await client.get(f"/api/credits/transactions?reservationId={held}")).json()["data"]
    page = await operator.get(f"{LIST}/{held}")
    assert 2 == page.text.count("dashboard:ana by hand"), "beside each entry"
    assert [("confirmed", "dashboard:ana", "by hand"), ("extended", "dashboard:ana", "by hand")] == [
        (each["kind"], each["by"], each["reason"]) for each in told[:2]
    ]


async def test_work_that_was_done_after_the_deadline_is_charged_late(operator, client, clock, held):
    await clock.set(clock.now_ms + 3_600_000)
    page = await operator.get(f"{LIST}/{held}")
    assert "Confirm late" in page.text
    assert not [form for form in page.forms if form.action in (act(held, "cancel"), act(held, "extend"))]
    seen = await operator.send(page.form(act(held, "confirm")), amount="25", reason="it was done")
    assert "Available 100 75" in seen.text
    done = await operator.send(seen.form(act(held, "confirm")))
    assert "Done: confirm" in done.text
    found = await find(client, held)
    assert ("confirmed", True, 25) == (found["status"], found["late"], found["charged"])


async def test_a_form_that_was_meant_before_the_deadline_charges_nothing_after_it(
    operator, client, clock, held
):
    seen = await foresee(operator, held, "confirm")
    await clock.set(clock.now_ms + 3_600_000)
    done = await operator.send(seen.form(act(held, "confirm")))
    assert "Refused, and nothing was changed" in done.text
    assert 100 == (await balance(client))["available"]


async def test_a_frozen_account_is_not_charged_by_hand_either(operator, client, held):
    await client.patch("/api/credits/accounts/alice", json={"status": "frozen"})
    seen = await foresee(operator, held, "confirm", amount="50", over="charge")
    assert "The account is frozen: it would be refused." in seen.text
    done = await operator.send(seen.form(act(held, "confirm")))
    assert "Refused, and nothing was changed" in done.text


async def test_how_fast_it_goes_is_counted_over_the_last_minute(client, database, journal, operator):
    for number in range(30):
        await do(client, "grant", accountId=f"a{number}", amount=1)
    ongoing = PostgresOngoing(database)
    async with asyncio.timeout(10):
        while 0.5 != await ongoing.per_second():  # noqa: ASYNC110 - the journal's worker does it
            await asyncio.sleep(0.05)
