"""The dashboard in a real Chromium, over a ledger that was traded with: every page, both themes, a phone,
what changes by itself, and what people do by hand.

After each test nothing may stand on a console, and nothing may have been asked of another host (`tab`).
"""

import os
import re
import signal
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from redis import Redis
from rq import Queue

from app.up.data import read_environment
from persistence import jobs
from tests.browser.screen import Screen
from tests.browser.shop import Shop

Tab = Callable[..., Screen]

SEVERAL_POLLS_MS = 10_000

PAGES = {
    "/dashboard": "Overview",
    "/dashboard/reservations": "Reservations",
    "/dashboard/accounts": "Accounts",
    "/dashboard/models": "Models",
    "/dashboard/journal": "Journal",
    "/dashboard/reconciliation": "Reconciliation",
    "/dashboard/webhooks": "Webhooks",
    "/dashboard/alerts": "Alerts and settings",
    "/dashboard/alerts/keys": "API keys",
    "/dashboard/preferences": "Preferences",
}
EVIDENCE = {
    "/dashboard/reservations": r"lip-sync|video",
    "/dashboard/accounts": r"demo-[0-9a-f]{6}-",
    "/dashboard/models": r"text-to-image",
    "/dashboard/journal": r"confirmed",
    "/dashboard/reconciliation": r"equal",
    "/dashboard/webhooks": r"conflict",
    "/dashboard/alerts": r"LASTRO_",
    "/dashboard/alerts/keys": r"development",
}
"""What only a ledger with data shows."""


@pytest.fixture(scope="module")
def signed_in(browser, shop: Shop):
    """The cookies of an operator who has come in by the door."""
    screen = Screen(browser, shop.url)
    screen.visit("/dashboard/models")
    assert "/dashboard/login" in screen.page.url
    screen.page.get_by_label("API key").fill(shop.key)
    screen.button("Sign in").click()
    screen.page.wait_for_url("**/dashboard/models")
    assert [] == screen.faults
    state = screen.state
    screen.close()
    return state


@pytest.fixture
def desk(tab: Tab, signed_in) -> Callable[..., Screen]:
    def make(**more) -> Screen:
        return tab(state=signed_in, **more)

    return make


def test_a_wrong_key_is_refused_in_words_and_says_nothing_to_a_console(tab: Tab):
    screen = tab()
    screen.visit("/dashboard/login")
    screen.page.get_by_label("API key").fill("lk_wrong")
    screen.button("Sign in").click()
    expect(screen.page.get_by_role("alert")).to_contain_text("not an API key")
    assert [] == screen.grave_faults()
    # The browser itself notes the refused answer; nothing else may stand there.
    assert [True, True] == [fault.startswith(("403:", "console error: Failed")) for fault in screen.faults]
    screen.faults.clear()


def test_every_page_shows_what_there_is_in_both_themes_and_keeps_nobody_out(desk):
    screen = desk()
    grave, missing = {}, []
    for path, title in PAGES.items():
        screen.visit(path)
        expect(screen.page.locator("h1")).to_have_text(title)
        assert f"{title} · Lastro" == screen.page.title()
        if not re.search(EVIDENCE.get(path, ""), screen.text()):
            missing.append(path)
        found, was_dark = screen.grave_faults(), screen.is_dark()
        screen.turn()  # the next page comes in the theme that this one ends in
        assert was_dark != screen.is_dark()
        if found := [*found, *screen.faint_texts()]:
            grave[path] = found
    assert ({}, []) == (grave, missing)


def test_a_phone_shows_every_page_without_scrolling_sideways_and_where_one_is(desk):
    screen = desk(phone=True)
    wide = {}
    for path in PAGES:
        screen.visit(path)
        if path != "/dashboard/preferences":
            expect(screen.page.locator(".pages [aria-current]")).to_be_in_viewport(ratio=0.9)
        if moved := screen.scrolled_sideways():
            wide[path] = moved
    assert {} == wide


def test_the_theme_is_chosen_whatever_the_system_has(desk):
    screen = desk()
    screen.visit("/dashboard/journal")
    assert not screen.is_dark()
    screen.button("Theme").click()
    screen.page.wait_for_load_state()
    assert screen.is_dark()
    screen.visit("/dashboard/models")
    assert screen.is_dark()


def test_the_keyboard_reaches_the_page_past_its_frame(desk):
    screen = desk()
    screen.visit("/dashboard/journal")
    screen.page.keyboard.press("Tab")
    expect(screen.page.get_by_text("Skip to the page")).to_be_focused()
    screen.page.keyboard.press("Enter")
    expect(screen.page.locator("main")).to_be_focused()


def test_what_happens_appears_by_itself_until_somebody_pauses(desk, shop: Shop):
    screen = desk()
    screen.visit("/dashboard/journal")
    shop.did("grant", accountId="seen-live", amount=11)
    expect(screen.page.locator("#journal")).to_contain_text("seen-live")
    screen.button("Pause").click()
    expect(screen.button("Paused")).to_have_attribute("aria-pressed", "true")
    shop.did("grant", accountId="seen-later", amount=12)
    with screen.page.expect_response(lambda answer: "seen-later" in answer.text(), timeout=30_000):
        screen.button("Paused").click()
    expect(screen.page.locator("#journal")).to_contain_text("seen-later")


def test_while_it_is_paused_nothing_is_asked(desk, shop: Shop):
    screen = desk()
    screen.page.clock.install()
    screen.visit("/dashboard/journal")
    with screen.page.expect_request("**/dashboard/journal"):
        screen.page.clock.run_for(SEVERAL_POLLS_MS)
    screen.button("Pause").click()
    screen.page.wait_for_timeout(300)  # for what was on its way
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    shop.did("grant", accountId="unseen", amount=13)
    screen.page.clock.run_for(SEVERAL_POLLS_MS)
    assert "/dashboard/journal" not in asked
    assert "unseen" not in screen.text()


def test_a_reservation_is_confirmed_by_hand_after_a_preview_and_with_a_reason(desk, shop: Shop):
    screen = desk()
    screen.visit("/dashboard/reservations?status=pending&account=ana")
    screen.page.locator("main a[href^='/dashboard/reservations/']").first.click()
    reservation = screen.page.url.rpartition("/")[2]
    screen.page.locator("summary").filter(has_text="Confirm").click()
    form = screen.page.locator("form[action$='/confirm']")
    form.get_by_label("Credits").fill("25")
    form.get_by_label("Reason").fill("the provider's page shows it as finished")
    form.get_by_role("button", name="Preview").click()
    expect(screen.page.locator("h1")).to_contain_text("what would happen")
    assert [] == screen.grave_faults()
    assert "pending" == shop.found(reservation)[0]
    screen.button("Confirm").click()
    expect(screen.page.get_by_role("status").filter(has_text="Done: confirm")).to_be_visible()
    expect(screen.page.locator("main")).to_contain_text("the provider's page shows it as finished")
    assert ("confirmed", 25, 5) == shop.found(reservation)
    assert [] == screen.grave_faults()


def test_an_account_is_found_put_right_and_its_timeline_shows_it(desk, shop: Shop):
    screen = desk()
    screen.visit("/dashboard/accounts")
    screen.page.get_by_label("A part of the id").fill("an")
    screen.button("Find").click()
    screen.page.get_by_role("link", name="ana", exact=True).click()
    available = shop.available("ana")
    screen.page.locator("summary").filter(has_text="Adjust").click()
    form = screen.page.locator("form[action='/dashboard/accounts/adjust']")
    form.get_by_label("Credits").fill("7")
    form.get_by_label("Reason").fill("double charge, ticket 4711")
    form.get_by_role("button", name="Preview").click()
    screen.button("Adjust").click()
    expect(screen.page.get_by_role("status").filter(has_text="Done: adjust")).to_be_visible()
    assert available + 7 == shop.available("ana")
    expect(screen.page.locator("#timeline")).to_contain_text("double charge, ticket 4711")
    assert [] == screen.grave_faults()


def test_a_failed_job_is_read_and_tried_again(desk, shop: Shop):
    with Redis.from_url(read_environment(shop.data)["LASTRO_QUEUE_URL"]) as queues:
        Queue(jobs.TASKS_QUEUE, connection=queues).enqueue(
            "persistence.jobs.forgotten", job_id="by-mistake", failure_ttl=600
        )
    screen = desk()
    screen.visit("/dashboard/journal")
    screen.page.get_by_role("link", name="by-mistake").click()
    expect(screen.page.locator("h1")).to_contain_text("by-mistake")
    assert "forgotten" in screen.page.locator("pre").inner_text()
    assert [] == screen.grave_faults()
    screen.page.get_by_label("Reason").fill("the release that has it is out")
    screen.button("Retry").click()
    expect(screen.page.get_by_role("status").filter(has_text="Done")).to_contain_text("put into its queue")
    expect(screen.page.locator("main")).to_contain_text("the release that has it is out")


def test_a_reconciliation_is_run_and_its_end_appears(desk):
    screen = desk()
    screen.visit("/dashboard/reconciliation")
    runs = screen.page.locator("#runs tbody tr")
    before = runs.count()
    screen.page.get_by_label("Reason").fill("before the invoice")
    screen.button("Run now").click()
    expect(screen.page.locator("main")).to_contain_text("Done: reconcile")
    expect(runs.nth(before)).to_be_visible()
    expect(runs.first).to_contain_text("equal")


def test_a_conflict_is_looked_into_and_replayed_to_the_same_end(desk):
    screen = desk()
    screen.visit("/dashboard/webhooks")
    screen.page.get_by_label("Outcome").select_option("conflict")
    screen.button("Show").click()
    screen.page.locator("#inbox tbody a").first.click()
    expect(screen.page.locator("h1")).to_contain_text("Delivery")
    screen.page.get_by_text("What the provider sent").click()
    expect(screen.page.locator("pre")).to_contain_text("replicate-task-0")
    assert [] == screen.grave_faults()
    screen.page.get_by_label("Reason").fill("the customer asks")
    screen.button("Replay").click()
    expect(screen.page.get_by_role("status").filter(has_text="Done")).to_contain_text("conflict")


def test_a_key_is_made_shown_once_and_revoked(desk, shop: Shop):
    screen = desk()
    screen.visit("/dashboard/alerts/keys")
    screen.page.get_by_label("Name").fill("shop-window")
    screen.page.get_by_label("read:").check()
    screen.page.get_by_label("Reason").fill("a new window")
    screen.button("Make the key").click()
    token = screen.page.get_by_label("The new key").input_value()
    assert [] == screen.grave_faults()
    assert 200 == shop.get("/api/credits/balance?accountId=ana", token)[0]
    screen.visit("/dashboard/alerts/keys")
    assert token not in screen.page.content()
    screen.page.get_by_role("link", name="Revoke shop-window").click()
    assert [] == screen.grave_faults()
    screen.page.get_by_label("Reason").fill("closed")
    screen.button("Revoke shop-window").click()
    expect(screen.page.locator("main")).to_contain_text("Done: revoke key (shop-window)")
    expect(screen.page.get_by_role("link", name="Revoke shop-window")).to_have_count(0)


def test_whoever_signs_out_is_out(tab: Tab, shop: Shop):
    screen = tab()
    screen.visit("/dashboard/login")
    screen.page.get_by_label("API key").fill(shop.key)
    screen.button("Sign in").click()
    screen.page.wait_for_url("**/dashboard")
    screen.button("Sign out").click()
    screen.page.wait_for_url("**/dashboard/login")
    screen.visit("/dashboard/journal")
    assert "/dashboard/login" in screen.page.url


def test_a_server_that_is_gone_is_said_and_its_return_is_noticed(desk, shop: Shop):
    screen = desk()
    screen.visit("/dashboard/journal")
    os.kill(shop.pid, signal.SIGSTOP)  # so that nothing puts another in its place before the page has noticed
    try:
        for api in shop.parts("app.cli api"):
            os.kill(api.pid, signal.SIGKILL)
        expect(screen.page.locator("#connection")).to_contain_text("trying again")
    finally:
        os.kill(shop.pid, signal.SIGCONT)
    expect(screen.page.locator("#connection")).to_have_text("")
    screen.faults.clear()  # what a browser says of a server that is gone
