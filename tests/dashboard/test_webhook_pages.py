"""The inbox as pages: what came of callbacks, what was sent, and acting on it again."""

import pytest

from app.settings import Settings
from tests.http.doors import FAILED, SUCCEEDED, deliver, inbox, reserved, told, with_doors
from tests.http.steps import do, find, sums

HERE = "/dashboard/webhooks"
WHY = "credits were granted"


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    return with_doors(settings)


async def test_an_empty_inbox_names_the_open_doors(operator):
    page = await operator.get(HERE)
    assert "Nothing came in the last day" in page.text
    assert "lastro simulate bfl" in page.text


async def test_deliveries_are_counted_listed_and_filtered(operator, client, stranger, app):
    await reserved(client, provider="sync", taskId="done")
    await told(stranger, "sync", SUCCEEDED["sync"]("done"))
    await told(stranger, "sync", FAILED["sync"]("done"))
    await told(stranger, "generic", SUCCEEDED["generic"]("nobody's"))
    await deliver(stranger, "generic", SUCCEEDED["generic"]("x"), signed=False)
    await app.state.parts.receiving.inbox.write_rejected_now()
    page = await operator.get(HERE)
    for provider, status in (("sync", "verified"), ("sync", "conflict"), ("generic", "waiting")):
        assert f"{HERE}?provider={provider}&status={status}" in page.links()
    assert "no reservation of this task is known" in page.text
    page = await operator.get(f"{HERE}?provider=sync&status=conflict&task=&reservation=")
    assert "reservation_confirmed" in page.text
    assert "no reservation of this task is known" not in page.text
    assert "Nothing is like that" in (await operator.get(f"{HERE}?task=nothing")).text
    for wrong in ("status=fine", "reservation=1", "surprise=1", "cursor=x"):
        assert 400 == (await operator.get(f"{HERE}?{wrong}")).status


async def test_what_was_refused_is_replayed_when_its_cause_is_mended(operator, client, stranger, database):
    made = await reserved(client, provider="generic", taskId="t", overCapture="charge")
    await do(client, "deduct", accountId="alice", amount=50)
    body = SUCCEEDED["generic"]("t") | {"amount": 80, "note": "<img src=x onerror=alert(1)>"}
    assert "refused" == await told(stranger, "generic", body)
    (row,) = await inbox(client)
    page = await operator.get(f"{HERE}/{row['id']}")
    assert "insufficient_credits" in page.text
    assert "<img src=x" not in page.html
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.html
    form = page.form(f"{HERE}/{row['id']}")
    assert 400 == (await operator.post(form.action, form.fields)).status_code  # no reason
    await do(client, "grant", accountId="alice", amount=100)
    page = await operator.send(form, reason=WHY)
    assert "Done: replay, verified" in page.text
    assert WHY in page.text
    reservation = made["reservation"]["id"]
    assert ("confirmed", 50) == ((await find(client, reservation))["status"], (await sums(client))[0] - 20)
    await operator.send(form, reason=WHY)
    assert 1 == await database.fetchval("SELECT count(*) FROM operator_actions WHERE act = 'replay'")
    assert 70 == (await sums(client))[0]


async def test_what_was_settled_or_is_not_there_cannot_be_replayed(operator, client, stranger, database):
    await reserved(client, provider="sync", taskId="t")
    await told(stranger, "sync", SUCCEEDED["sync"]("t"))
    (row,) = await inbox(client)
    page = await operator.get(f"{HERE}/{row['id']}")
    assert f"{HERE}/{row['id']}" not in [form.action for form in page.forms]
    fields = {**page.forms[0].fields, "reason": WHY, "once": "o"}
    await database.execute("UPDATE webhook_inbox SET payload = NULL")
    assert 400 == (await operator.post(f"{HERE}/{row['id']}", fields)).status_code
    for nothing in ("0", "999", "x", "9" * 40, "-1", "\u0661"):
        assert 404 == (await operator.get(f"{HERE}/{nothing}")).status
        assert 404 == (await operator.post(f"{HERE}/{nothing}", fields)).status_code


KEPT = """
INSERT INTO webhook_inbox (provider, named, outcome, status, payload)
VALUES ('fal', 'task', 'succeeded', 'conflict', $1) RETURNING id
"""


@pytest.mark.parametrize(("deep", "wide"), [(1, 1), (300, 100_000), (900, 1_500), (980, 1), (3_000, 1)])
async def test_a_payload_is_shown_whole_however_deep_and_long_it_is(operator, database, deep, wide):
    payload = '{"x":' + "[" * deep + ",".join(["7171717"] * wide) + "]" * deep + "}"
    answer = await operator.http.get(f"{HERE}/{await database.fetchval(KEPT, payload)}")
    assert 200 == answer.status_code
    assert (deep, wide) == (answer.text.count("["), answer.text.count("7171717"))
    assert len(answer.text) < 5_000_000, "nobody's memory is filled"
