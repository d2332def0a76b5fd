"""Accounts: found, shown whole, put right by hand."""

import asyncio
import csv
import io

import pytest

from app.dashboard import accounts
from tests.dashboard.browsing import HOME
from tests.http.steps import balance, do, setting

ONE = f"{HOME}/accounts/one?account=alice"
ADJUST, FREEZE, ACTIVATE = (f"{HOME}/accounts/{act}" for act in ("adjust", "freeze", "activate"))


async def see(browser, path, *texts, seconds=30):
    """The page, once the journal has come so far that it says these."""
    async with asyncio.timeout(seconds):
        while True:
            page = await browser.get(path)
            if all(text in page.text for text in texts):
                return page
            await asyncio.sleep(0.05)


async def test_without_any_account_the_page_says_how_one_is_opened(operator):
    page = await operator.get(f"{HOME}/accounts")
    assert "There is no account yet" in page.text
    assert "/api/credits/grant" in page.text


async def test_accounts_are_found_by_a_part_of_their_id_page_by_page(operator, client, journal):
    for number in range(60):
        await do(client, "grant", accountId=f"user-{number:02}", amount=number + 1)
    await do(client, "grant", accountId="other", amount=1)
    page = await see(operator, f"{HOME}/accounts?q=other", "other")
    assert "user-00" not in page.text
    await see(operator, f"{HOME}/accounts?q=user-59", "user-59")
    first = await operator.get(f"{HOME}/accounts?q=user-")
    (older,) = [link for link in first.links() if "cursor" in link]
    second = await operator.get(older)
    shown = [[link for link in page.links() if "accounts/one" in link] for page in (first, second)]
    assert (50, 10) == (len(shown[0]), len(shown[1]))
    assert not set(shown[0]) & set(shown[1])
    assert "No account has this in its id" in (await operator.get(f"{HOME}/accounts?q=nobody")).text


async def test_an_account_is_shown_with_its_buckets_and_every_entry_with_the_balance_after_it(
    operator, client, journal
):
    await do(client, "grant", accountId="alice", amount=1_000_000, reason="bought")
    await do(client, "grant", accountId="alice", amount=500, bucket="bonus", expiresAt="2100-01-31T00:00:00Z")
    made = await do(client, "reserve", accountId="alice", amount=40, modelId="flux-pro")
    await do(client, "confirm", reservationId=made["reservation"]["id"], amount=30)
    await do(client, "reserve", accountId="alice", amount=7)
    page = await see(operator, ONE, "granted", "confirmed")
    for told in ("1,000,463", "bonus", "31 Jan 2100", "never", "bought", "flux-pro", "+1,000,000", "key:all"):
        assert told in page.text, told
    times = [given for tag, given in page.tags if tag == "time"]
    assert all(given["title"].endswith(" UTC") for given in times)
    captions = page.html.count("<caption")
    assert captions == page.html.count("<table")
    assert f"{HOME}/reservations/{made['reservation']['id']}" in page.links()
    bars = [given["aria-label"] for tag, given in page.tags if tag == "svg"]
    assert bars == ["463 available, 7 held", "1,000,000 available, 0 held"]


async def test_times_are_those_of_the_visitors_zone_with_utc_beside_them(operator, client, journal):
    await do(client, "grant", accountId="alice", amount=1, expiresAt="2100-07-01T12:00:00Z")
    assert "01 Jul 2100, 12:00:00" in (await operator.get(ONE)).text
    page = await operator.get(f"{HOME}/preferences")
    form = next(each for each in page.forms if "zone" in each.fields)
    await operator.send(form, zone="Asia/Tokyo")
    page = await operator.get(ONE)
    assert "01 Jul 2100, 21:00:00" in page.text
    assert 'title="2100-07-01 12:00:00.000 UTC"' in page.html


async def test_the_last_hours_that_there_are_can_be_shown_in_every_zone(operator, client):
    await do(client, "grant", accountId="alice", amount=1, expiresAt="9999-12-31T23:59:59Z")
    for zone in ("Pacific/Kiritimati", "America/Sao_Paulo"):
        page = await operator.get(f"{HOME}/preferences")
        await operator.send(next(each for each in page.forms if "zone" in each.fields), zone=zone)
        page = await operator.get(ONE)
        assert 200 == page.status
        assert 'title="9999-12-31 23:59:59.000 UTC"' in page.html


async def test_an_account_that_nobody_knows_is_not_found(operator):
    page = await operator.get(f"{HOME}/accounts/one?account=nobody")
    assert 404 == page.status
    assert "account_not_found" in page.text


async def test_an_account_is_adjusted_by_hand_with_a_reason_that_the_journal_and_the_audit_keep(
    operator, client, journal, database
):
    await do(client, "grant", accountId="alice", amount=100)
    seen = await operator.send((await operator.get(ONE)).form(ADJUST), amount="-30", reason="Charged twice")
    assert "Charged twice" in seen.text
    assert "Account alice" in seen.text
    assert "100 70" in seen.text
    done = await operator.send(seen.form(ADJUST))
    assert "Done: adjust" in done.text
    assert 70 == (await balance(client))["available"]
    (row,) = await database.fetch("SELECT * FROM operator_actions")
    assert ("adjust", "dashboard:ana", "Charged twice", "alice", "-30 credits", "done") == (
        row["act"], row["by"], row["reason"], row["account"], row["detail"], row["outcome"],
    )  # fmt: skip
    page = await see(operator, ONE, "adjusted")
    assert page.text.count("dashboard:ana") >= 2, "in the audit and in the journal"
    told = (await client.get(f"/api/credits/transactions/{row['told']}")).json()
    assert ("adjusted", -30, "dashboard:ana", "Charged twice") == (
        told["kind"], told["amount"], told["by"], told["reason"],
    )  # fmt: skip


async def test_what_the_ledger_refuses_is_told_before_and_after_and_changes_nothing(
    operator, client, database
):
    await do(client, "grant", accountId="alice", amount=10)
    seen = await operator.send((await operator.get(ONE)).form(ADJUST), amount="-11", reason="too much")
    assert "There are 10: it would be refused." in seen.text
    done = await operator.send(seen.form(ADJUST))
    assert "Refused, and nothing was changed" in done.text
    assert 10 == (await balance(client))["available"]
    assert "refused" == await database.fetchval("SELECT outcome FROM operator_actions")


async def test_an_account_is_frozen_and_made_active_again(operator, client, journal):
    await do(client, "grant", accountId="alice", amount=10)
    for action, status in ((FREEZE, "frozen"), (ACTIVATE, "active")):
        page = await operator.get(ONE)
        seen = await operator.send(page.form(action), reason=f"for it to be {status}")
        done = await operator.send(seen.form(action))
        assert "Done:" in done.text
        assert status == (await balance(client))["status"]
        other = ACTIVATE if status == "frozen" else FREEZE
        assert done.form(other), "what can be done next is offered"
    told = (await client.get("/api/credits/transactions?accountId=alice&kind=configured")).json()
    assert {"dashboard:ana"} >= {each["by"] for each in told["data"]}


async def test_a_form_that_freezes_and_is_sent_again_after_somebody_has_activated_freezes_nothing(
    operator, client
):
    await do(client, "grant", accountId="alice", amount=10)
    seen = await operator.send((await operator.get(ONE)).form(FREEZE), reason="once")
    await operator.send(seen.form(FREEZE))
    await setting(client, status="active")
    await operator.send(seen.form(FREEZE))
    assert "active" == (await balance(client))["status"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
async def test_what_happened_to_an_account_is_kept_as_a_file(operator, client, journal, form):
    await do(client, "grant", accountId="alice", amount=10)
    await do(client, "grant", accountId="bob", amount=10)
    await see(operator, ONE, "granted")
    await see(operator, ONE.replace("alice", "bob"), "granted")
    page = await operator.get(ONE)
    (path,) = [link for link in page.links() if f"format={form}" in link]
    answer = await operator.http.get(path)
    assert 200 == answer.status_code
    assert "attachment" in answer.headers["content-disposition"]
    assert "bob" not in answer.text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [("granted", "10")] == [(row["kind"], row["amount"]) for row in rows]


async def test_an_account_with_many_open_reservations_shows_the_newest_and_leads_to_all(
    operator, client, journal, monkeypatch
):
    monkeypatch.setattr(accounts, "HOLDS_SHOWN", 2)
    await do(client, "grant", accountId="alice", amount=10)
    made = [(await do(client, "reserve", accountId="alice", amount=1))["reservation"]["id"] for _ in range(3)]
    page = await see(operator, ONE, f"{made[2][-12:]}", "All 3")
    shown = {link.rpartition("/")[2] for link in page.links() if "/reservations/0" in link}
    assert {made[1], made[2]} <= shown
    polled = await operator.get(ONE, **{"hx-request": "true", "hx-target": "now"})
    assert made[0] not in polled.html, "only the timeline would show it"
