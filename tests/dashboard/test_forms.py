"""Forms come from our own pages, from this session, and are done once."""

import asyncio

import pytest

from app.ledger.backing import BackingUnavailable
from persistence.api_keys import create
from tests.dashboard.browsing import HOME, ORIGIN
from tests.dashboard.test_entering import OPEN, filled, pages
from tests.http.steps import balance, do

ADJUST = f"{HOME}/accounts/adjust"


async def fields(browser, **more):
    """Of the form that adjusts alice, as it stands on her page."""
    page = await browser.get(f"{HOME}/accounts/one?account=alice")
    return {**page.form(ADJUST).fields, "amount": "5", "reason": "why", **more}


@pytest.fixture
async def alice(client):
    await do(client, "grant", accountId="alice", amount=100)


FOREIGN = ["https://evil.example", "null", "", "http://lastro.test.evil.example", "http://lastro.test:81",
           "ftp://lastro.test", "http://", "lastro.test"]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_form_of_another_origin_is_refused_wherever_it_goes(app, operator, origin):
    token = (await operator.get(HOME)).form("/dashboard/logout").fields["csrf"]
    walked = [path for method, path in pages(app) if method == "POST"]
    assert len(walked) > 7
    for path in walked:
        answer = await operator.http.post(filled(path), data={"csrf": token}, headers={"origin": origin})
        assert 403 == answer.status_code, path
    assert 200 == (await operator.get(HOME)).status, "nobody was signed out"


async def test_a_form_without_an_origin_is_refused(operator):
    token = (await operator.get(HOME)).form("/dashboard/logout").fields["csrf"]
    answer = await operator.http.post("/dashboard/logout", data={"csrf": token})
    assert 403 == answer.status_code
    assert "not of a page of this dashboard" in answer.text


async def test_a_form_without_the_token_of_the_session_is_refused_wherever_it_goes(
    app, operator, browsers, key
):
    other = browsers()
    await other.sign_in(key)
    theirs = (await other.get(HOME)).form("/dashboard/logout").fields["csrf"]
    ours = (await operator.get(HOME)).form("/dashboard/logout").fields["csrf"]
    assert theirs != ours, "another session of the same key"
    for method, path in pages(app):
        if method != "POST" or path in OPEN:
            continue
        for token in (theirs, "", ours[:-1], ours.upper(), "\u00e9", operator.http.cookies["lastro_session"]):
            answer = await operator.post(filled(path), {"csrf": token})
            assert 403 == answer.status_code, (path, token)
        assert 403 == (await operator.post(filled(path), {})).status_code
    assert 200 == (await operator.get(HOME)).status, "nobody was signed out"


async def test_a_form_that_is_malformed_or_too_large_is_a_clear_mistake(operator, alice):
    good = await fields(operator)
    type_ = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}
    for content, status in (
        (b"\xff\xfe=1", 400),
        (b"csrf=" + good["csrf"].encode() + b"&a=1&a=2", 400),
        (b"&".join(b"a%d=1" % number for number in range(80)), 400),
        (b"a=" + b"x" * 1_100_000, 413),
        (b"csrf=%ff", 400),
    ):
        answer = await operator.http.post(ADJUST, content=content, headers=type_)
        assert status == answer.status_code, content[:20]
        assert answer.headers["content-type"].startswith("text/html")
    for wrong in (
        {"amount": "1.5"}, {"amount": "0"}, {"amount": "many"}, {"amount": "99999999999999999999"},
        {"reason": ""}, {"reason": "x" * 501}, {"reason": "a\x00b"}, {"account": "a b"},
        {"bucket": "overdraft"}, {"short": "steal"},
    ):  # fmt: skip
        answer = await operator.post(ADJUST, {**good, **wrong})
        assert 400 == answer.status_code, wrong


async def test_a_form_sent_twice_is_done_once_and_answered_alike(operator, alice, client, database):
    seen = await operator.send((await operator.get(f"{HOME}/accounts/one?account=alice")).form(ADJUST),
                               amount="5", reason="twice")  # fmt: skip
    form = seen.form(ADJUST)
    sent = [operator.post(ADJUST, form.fields) for _ in range(8)]
    answers = await asyncio.gather(*sent)
    assert {303} == {answer.status_code for answer in answers}
    assert 1 == len({answer.headers["location"] for answer in answers})
    assert 105 == (await balance(client))["available"]
    assert 1 == await database.fetchval("SELECT count(*) FROM operator_actions")


async def test_looking_at_what_would_happen_changes_nothing(operator, alice, client, database):
    page = await operator.get(f"{HOME}/accounts/one?account=alice")
    await operator.send(page.form(ADJUST), amount="5", reason="only looking")
    assert 100 == (await balance(client))["available"]
    assert 0 == await database.fetchval("SELECT count(*) FROM operator_actions")


async def test_without_postgresql_nothing_is_done_by_hand(operator, alice, client, app, monkeypatch):
    """What the audit cannot know of does not happen."""
    good = await fields(operator, once="dashboard-1")

    async def away(*_: object) -> int:
        raise BackingUnavailable("away")

    monkeypatch.setattr(app.state.parts.operators.actions, "begin", away)
    answer = await operator.post(ADJUST, good)
    assert 503 == answer.status_code
    assert "may be sent again" in answer.text
    assert 100 == (await balance(client))["available"]


async def test_what_was_begun_and_not_noted_as_done_is_ended_by_the_same_form(
    operator, alice, client, app, database, monkeypatch
):
    """The process dies between the ledger and the audit."""
    good = await fields(operator, once="dashboard-2")
    actions = app.state.parts.operators.actions
    end = actions.end

    async def away(*_: object) -> None:
        raise BackingUnavailable("away")

    monkeypatch.setattr(actions, "end", away)
    assert 503 == (await operator.post(ADJUST, good)).status_code
    assert 105 == (await balance(client))["available"]
    assert ["asked"] == [row[0] for row in await database.fetch("SELECT outcome FROM operator_actions")]
    page = await operator.get(f"{HOME}/accounts/one?account=alice")
    assert "asked" in page.text
    monkeypatch.setattr(actions, "end", end)
    assert 303 == (await operator.post(ADJUST, good)).status_code
    assert 105 == (await balance(client))["available"]
    assert ["done"] == [row[0] for row in await database.fetch("SELECT outcome FROM operator_actions")]


KEYS = f"{HOME}/alerts/keys"


async def test_nothing_is_done_under_the_name_of_something_else_past_the_audit(operator, database):
    """The key of a form is the sender's to choose."""
    for name in ("one", "two"):
        await create(database, name, ["read"])
    of = {row["name"]: row["id"] for row in await database.fetch("SELECT name, id::text FROM api_keys")}
    csrf = (await operator.get(KEYS)).form(KEYS).fields["csrf"]
    sent = {"csrf": csrf, "once": "mine", "reason": "why"}
    assert 303 == (await operator.post(f"{KEYS}/{of['one']}", sent)).status_code
    answer = await operator.post(f"{KEYS}/{of['two']}", sent)
    assert 400 == answer.status_code
    assert "with something else in it" in answer.text
    made = await operator.post(KEYS, {**sent, "name": "three", "operate": "true"})
    assert 400 == made.status_code
    in_force = await database.fetch("SELECT name FROM api_keys WHERE revoked_at IS NULL ORDER BY name")
    assert ["ana", "two"] == [row["name"] for row in in_force]
    assert 1 == await database.fetchval("SELECT count(*) FROM operator_actions")


async def test_what_has_ended_is_not_done_again_whoever_sends_its_form(operator, browsers, database):
    here = f"{HOME}/reconciliation"
    form = (await operator.get(here)).form(here)
    await operator.send(form, reason="why")
    await database.execute("UPDATE reconciliations SET finished_at = now(), status = 'equal'")
    await operator.send(form, reason="why")
    assert 1 == await database.fetchval("SELECT count(*) FROM reconciliations")
    bea = browsers()
    await bea.sign_in(await create(database, "bea", ["operate"]))
    csrf = (await bea.get(here)).form(here).fields["csrf"]
    assert 400 == (await bea.post(here, {**form.fields, "reason": "why", "csrf": csrf})).status_code
    by = await database.fetch("SELECT by FROM operator_actions")
    assert ["dashboard:ana"] == [row["by"] for row in by]
