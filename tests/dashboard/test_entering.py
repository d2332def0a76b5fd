"""Who sees the pages, how long, and what a browser is told to keep to itself."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from litestar.routes import HTTPRoute

from app.dashboard.attempts import ADDRESSES_MAX, FAILURES_MAX, SECONDS, Attempts
from app.dashboard.gate import SIGN_IN
from app.dashboard.visitor import SESSION
from persistence.api_keys import create, revoke
from persistence.dashboard.sessions import HOURS, PostgresSessions
from persistence.pool import open_pool
from tests.dashboard.browsing import HOME, ORIGIN

UUID = "01a1ffa5-4956-7003-abd8-99c175348713"
OPEN = {"/dashboard/login", "/dashboard/static/{digest:str}/{name:str}"}


def pages(app) -> list[tuple[str, str]]:
    """Method and path of all that the dashboard answers."""
    return [
        (method, route.path)
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith(HOME)
        for method in route.route_handler_map
        if method != "OPTIONS"
    ]


def filled(path: str) -> str:
    return re.sub(r"\{\w+:\w+\}", UUID, path)


async def test_whoever_has_not_signed_in_sees_no_page_and_does_nothing(app, passerby):
    walked = [(method, path) for method, path in pages(app) if path not in OPEN]
    assert len(walked) > 3
    for method, path in walked:
        answer = await passerby.http.request(method, filled(path), headers={"origin": ORIGIN})
        assert 303 == answer.status_code, (method, path)
        assert answer.headers["location"].startswith(SIGN_IN), (method, path)
        assert b"" == answer.content


async def test_an_operators_key_opens_the_pages_and_leads_to_the_one_that_was_asked_for(passerby, key):
    asked = await passerby.get("/dashboard/preferences?theme=dark")
    assert asked.answer.url.path == SIGN_IN
    page = await passerby.send(asked.form(SIGN_IN), key=key)
    assert (200, "/dashboard/preferences") == (page.status, page.answer.url.path)
    assert "theme=dark" in str(page.answer.url)
    assert "ana" in page.text


async def test_the_cookie_is_for_the_dashboard_alone_and_no_script_sees_it(passerby, database, key):
    page = await passerby.get(SIGN_IN)
    answer = await passerby.post(SIGN_IN, {**page.form(SIGN_IN).fields, "key": key})
    (cookie,) = answer.headers.get_list("set-cookie")
    assert {"Path=/dashboard", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    ends = parsedate_to_datetime(re.search("Expires=([^;]+)", cookie)[1])
    assert abs(ends - datetime.now(UTC) - timedelta(hours=HOURS)) < timedelta(minutes=1)
    secret = re.match(f"{SESSION}=([^;]+)", cookie)[1]
    assert len(secret) >= 43
    rows = await database.fetch("SELECT s.*, k.name FROM operator_sessions s JOIN api_keys k ON k.id = s.key")
    assert ["ana"] == [row["name"] for row in rows]
    assert secret not in str([dict(row) for row in rows])
    assert secret not in answer.text


async def test_behind_tls_the_cookie_never_goes_over_a_plain_wire(browsers, key):
    browser = browsers()
    answer = await browser.http.post(SIGN_IN, data={"key": key}, headers={"origin": "https://lastro.test"})
    assert 303 == answer.status_code
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("scopes", "account", "told"),
    [
        (["spend", "grant", "read"], None, "does not have the scope operate"),
        (["operate"], "alice", "for the account alice only"),
    ],
)
async def test_another_key_opens_nothing_and_is_told_why(passerby, database, scopes, account, told):
    other = await create(database, "other", scopes, account=account)
    page = await passerby.sign_in(other)
    assert 403 == page.status
    assert told in page.text
    assert not passerby.http.cookies
    assert 0 == await database.fetchval("SELECT count(*) FROM operator_sessions")


@pytest.mark.parametrize("wrong", ["nonsense", "lk_00000000_" + "A" * 43, "lk_" + "\u00e9" * 52])
async def test_what_is_no_key_opens_nothing(passerby, wrong):
    page = await passerby.sign_in(wrong)
    assert 403 == page.status
    assert not passerby.http.cookies


async def test_an_api_key_in_a_header_opens_no_page_and_the_cookie_no_api(operator, passerby, key):
    bearer = {"authorization": f"Bearer {key}"}
    assert SIGN_IN == (await passerby.get(HOME, **bearer)).answer.url.path
    assert 401 == (await operator.http.get("/api/credits/accounts")).status_code


async def test_a_session_ends_at_once_in_every_process_when_its_key_is_revoked(operator, database):
    assert "Overview" in (await operator.get(HOME)).text
    await revoke(database, "ana")
    assert SIGN_IN == (await operator.get(HOME)).answer.url.path


async def test_a_session_ends_when_it_is_signed_out_of_and_its_cookie_is_good_for_nothing(operator, browsers):
    page = await operator.get(HOME)
    stolen = browsers()
    stolen.http.cookies.update(operator.http.cookies)
    assert 200 == (await stolen.get(HOME)).status
    left = await operator.send(page.form("/dashboard/logout"))
    assert SIGN_IN == left.answer.url.path
    assert not operator.http.cookies
    assert SIGN_IN == (await stolen.get(HOME)).answer.url.path


async def test_a_session_ends_after_twelve_hours_and_with_a_key_that_expires_earlier(
    passerby, browsers, database, operator
):
    soon = datetime.now(UTC) + timedelta(hours=1)
    await passerby.sign_in(await create(database, "short", ["operate"], expires_at=soon))
    joined = "operator_sessions s JOIN api_keys k ON k.id = s.key"
    ends = dict(await database.fetch(f"SELECT name, s.expires_at - s.created_at FROM {joined}"))
    assert timedelta(hours=12) == ends["ana"]
    assert ends["short"] < timedelta(hours=1, seconds=1)
    await database.execute("UPDATE operator_sessions SET expires_at = now()")
    assert SIGN_IN == (await operator.get(HOME)).answer.url.path
    await browsers().sign_in(await create(database, "later", ["operate"]))
    assert 1 == await database.fetchval("SELECT count(*) FROM operator_sessions"), "those that are over go"


async def test_while_postgresql_is_away_who_was_seen_goes_on_and_nobody_else_comes_in(own_postgres, key):
    pool = await open_pool(own_postgres.url, connections_max=2)
    token = await create(pool, "ana", ["operate"])
    sessions = PostgresSessions(pool)
    secret, session = await sessions.sign_in(token.encode())
    other = PostgresSessions(pool)
    own_postgres.kill()
    assert session == await sessions.find(secret)
    with pytest.raises(Exception, match="PostgreSQL"):
        await other.find(secret)
    pool.terminate()


async def test_a_poll_without_a_session_tells_the_script_to_leave_the_page(passerby):
    answer = await passerby.http.get(HOME, headers={"hx-request": "true"})
    assert (401, SIGN_IN, b"") == (answer.status_code, answer.headers["hx-redirect"], answer.content)


@pytest.mark.parametrize(
    "next_page",
    ["https://evil.example", "//evil.example", "/dashboardx", "/api/credits/accounts", "/dashboard\\@evil",
     "", "/dashboard/\r\nset-cookie: a=b", "javascript:alert(1)", "/dashboard/\u00e9"],
)  # fmt: skip
async def test_signing_in_leads_nowhere_but_to_our_pages(passerby, key, next_page):
    answer = await passerby.post(SIGN_IN, {"key": key, "next": next_page})
    assert (303, HOME) == (answer.status_code, answer.headers["location"])
    looked = await passerby.http.get(SIGN_IN, params={"next": next_page})
    assert 'name="next" value="/dashboard"' in looked.text


async def test_every_page_is_for_this_browser_now_and_for_no_frame_cache_or_stranger(app, operator):
    for method, path in pages(app):
        if method != "GET" or "static" in path:
            continue
        answer = await operator.http.get(filled(path))
        policy = dict(
            each.strip().partition(" ")[::2] for each in answer.headers["content-security-policy"].split(";")
        )
        if answer.headers["content-type"].startswith("text/html"):
            assert ("'self'", "'self'") == (policy["script-src"], policy["style-src"]), path
            assert ("'none'", "'self'") == (policy["base-uri"], policy["form-action"]), path
        assert ("'none'", "'none'") == (policy["default-src"], policy["frame-ancestors"]), path
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "no-store" == answer.headers["cache-control"], path
        assert "nosniff" == answer.headers["x-content-type-options"]


def test_attempts_are_counted_for_each_address_and_forgiven_after_a_minute():
    now = [1000.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(FAILURES_MAX):
        assert 0 == attempts.wait_seconds("10.0.0.1")
        attempts.failed("10.0.0.1")
        now[0] += 1
    assert SECONDS - FAILURES_MAX < attempts.wait_seconds("10.0.0.1") <= SECONDS - FAILURES_MAX + 1
    assert 0 == attempts.wait_seconds("10.0.0.2")
    now[0] += SECONDS - FAILURES_MAX
    assert 0 == attempts.wait_seconds("10.0.0.1")
    attempts.failed("10.0.0.1")
    assert 0 == attempts.wait_seconds("10.0.0.1"), "what was forgiven does not count any more"


def test_of_ipv6_one_customers_addresses_are_one():
    attempts = Attempts(lambda: 0.0)
    for number in range(FAILURES_MAX):
        attempts.failed(f"2001:db8:1:2::{number:x}")
    assert attempts.wait_seconds("2001:db8:1:2:ffff::1")
    assert 0 == attempts.wait_seconds("2001:db8:1:3::1")


def test_failures_of_many_addresses_fill_no_memory():
    attempts = Attempts(lambda: 0.0)
    for number in range(ADDRESSES_MAX + 100):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert ADDRESSES_MAX == len(attempts._failed)


async def test_whoever_tries_too_often_is_asked_to_wait_whatever_they_bring(browsers, key, database):
    browser = browsers(address="192.0.2.7")
    for _ in range(FAILURES_MAX):
        assert 403 == (await browser.sign_in("lk_00000000_" + "A" * 43)).status
    page = await browser.sign_in(key)
    assert 429 == page.status
    assert 0 < int(page.answer.headers["retry-after"]) <= SECONDS
    assert 0 == await database.fetchval("SELECT count(*) FROM operator_sessions")
    assert 200 == (await browsers(address="192.0.2.8").sign_in(key)).status


async def test_files_are_kept_for_good_under_their_digest_and_not_under_another(passerby):
    page = await passerby.get(SIGN_IN)
    found = [
        given.get("href") or given.get("src") for tag, given in page.tags if tag in ("link", "script", "img")
    ]
    assert len(found) >= 4
    for path in found:
        answer = await passerby.http.get(path)
        assert (200, "public, max-age=31536000, immutable") == (
            answer.status_code,
            answer.headers["cache-control"],
        )
        other = await passerby.http.get(re.sub("/static/[0-9a-f]+/", "/static/0/", path))
        assert (answer.content, "no-store") == (other.content, other.headers["cache-control"])
    for nothing in ("x.css", "README.md", "..%2f__init__.py", "htmx.LICENSE"):
        assert 404 == (await passerby.http.get(f"/dashboard/static/0/{nothing}")).status_code


async def test_nothing_on_a_page_comes_from_elsewhere_or_runs_inline(operator, passerby):
    for page in (await passerby.get(SIGN_IN), await operator.get(HOME)):
        for tag, given in page.tags:
            assert "style" not in given, (tag, given)
            assert not [name for name in given if name.startswith("on")], (tag, given)
            for name in ("src", "href", "action", "hx-get"):
                assert given.get(name, "/").startswith(("/", "#")), (tag, given)
                assert not given.get(name, "/").startswith("//")
        assert "<style" not in page.html
        assert all("src" in given for tag, given in page.tags if tag == "script")
