"""What the log says of requests and of confirms, through the formatter that it is written by."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app import logs
from app.http import wide
from app.ledger import confirming
from app.sparing import Sparing
from persistence.api_keys import create
from tests.http.conftest import ALL, _client, running
from tests.http.serving import create_app
from tests.http.steps import CREDITS, ask, do, is_refused, op

NOBODYS = "01a1ffa5-4956-7003-abd8-99c175348713"
SECRET = "for nobody else"


class Log:
    """What was written, line by line."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Those of one event, in order."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["event"] == event]


class Terminal(io.StringIO):
    """Where a person is looking."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO])
def log(request, monkeypatch) -> Iterator[Log]:
    """The real set-up, at the level `debug`, into a text."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = request.param()
    monkeypatch.setattr("sys.stderr", stream)
    logs.set_up("debug")
    monkeypatch.setattr(wide, "log", structlog.get_logger("lastro.request"))
    monkeypatch.setattr(confirming, "_sparing", Sparing(1000))
    yield Log(stream)
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize("log", [io.StringIO, Terminal], indirect=True)
def test_what_fails_is_told_without_the_values_that_it_had(log):
    def fails(password: str) -> None:
        raise ValueError(f"{len(password)} characters are wrong")

    secret = "T0p-secret"
    try:
        fails(secret)
    except ValueError:
        structlog.get_logger("lastro").exception("it failed")
    assert "10 characters are wrong" in log.text
    assert secret not in log.text


async def test_a_request_has_one_line_that_says_what_it_was_about_and_what_came_of_it(log, client):
    made = await do(client, "grant", accountId="alice", amount=100)
    held = await do(client, "reserve", accountId="alice", amount=10, taskId="t-1", provider="bfl")
    await do(client, "deduct", key="k", accountId="alice", amount=1)
    await do(client, "deduct", key="k", accountId="alice", amount=1)
    granted, reserved, deducted, again = log.lines("request")
    token = client.headers["authorization"].removeprefix("Bearer ")
    assert {
        "level": "info",
        "logger": "lastro.request",
        "method": "POST",
        "route": f"{CREDITS}/grant",
        "status": 201,
        "by": "key:all",
        "key": token.rpartition("_")[0],
        "account": "alice",
        "transaction": made["transaction"]["id"],
        "replayed": False,
    }.items() <= granted.items()
    assert 0 < granted["duration_ms"] < 60_000
    assert re.fullmatch("[0-9a-f]{16}", granted["request_id"])
    assert (held["reservation"]["id"], "t-1", "bfl") == (
        reserved["reservation"],
        reserved["task"],
        reserved["provider"],
    )
    assert (False, True) == (deducted["replayed"], again["replayed"])


async def test_what_was_refused_says_with_which_code_and_about_what(log, client, stranger):
    await do(client, "grant", accountId="alice", amount=1)
    await is_refused(client, "deduct", 402, "insufficient_credits", accountId="alice", amount=5)
    await client.get(f"{CREDITS}/reservations/{NOBODYS}")
    await client.get(f"{CREDITS}/balance", params={"accountId": "nobody"})
    await stranger.get(f"{CREDITS}/balance")
    await stranger.get("/nowhere")
    _, deducted, found, balance, denied, lost = log.lines("request")
    assert ("insufficient_credits", 402, "alice") == (
        deducted["code"],
        deducted["status"],
        deducted["account"],
    )
    assert ("reservation_not_found", NOBODYS) == (found["code"], found["reservation"])
    assert ("account_not_found", "nobody") == (balance["code"], balance["account"])
    assert ("unauthenticated", False) == (denied["code"], "by" in denied)
    assert ("unrouted", "any", "not_found") == (lost["route"], lost["method"], lost["code"])


async def test_a_batch_says_how_many_operations_it_had(log, client):
    await do(client, "batch", operations=[op("grant", accountId="alice", amount=1)] * 3)
    (line,) = log.lines("request")
    assert 3 == line["operations"]


async def test_no_line_has_a_secret_metadata_or_a_body(log, client, stranger):
    await do(client, "grant", accountId="alice", amount=9, reason=SECRET, metadata={"note": SECRET})
    await ask(client, "grant", accountId="alice", amount=SECRET)
    await ask(client, "grant", accountId="alice", amount=1, unknown=SECRET)
    await client.get(f"{CREDITS}/balance", params={"accountId": "alice", "unknown": SECRET})
    await stranger.post(f"/api/webhooks/bfl/{NOBODYS}/token-of-a-callback", content=SECRET.encode())
    await stranger.get("/nowhere/token-of-a-callback")
    token = client.headers["authorization"].removeprefix("Bearer ")
    assert 6 == len(log.lines("request"))
    for hidden in (token, token.rpartition("_")[2], SECRET, "token-of-a-callback"):
        assert hidden not in log.text, hidden


async def test_a_sane_request_id_is_taken_over_and_every_answer_has_one(log, client, stranger):
    sane = "4bf92f35-77b3:4da6/a3ce@929d+0e0e="
    answer = await client.get(f"{CREDITS}/balance", headers={"x-request-id": sane})
    assert sane == answer.headers["x-request-id"] == log.lines("request")[0]["request_id"]
    for other in ("", " ", "a b", "x" * 129, 'a"b', "a\tb", "é".encode("latin-1")):
        answer = await client.get(f"{CREDITS}/balance", headers={"x-request-id": other})
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"]), other
    ids = {
        (await stranger.get(path)).headers["x-request-id"] for path in ("/nowhere", "/health/live", "/docs")
    }
    assert 3 == len(ids)


async def test_whatever_is_logged_while_a_request_is_answered_names_it(log, client):
    await is_refused(client, "confirm", 404, "reservation_not_found", reservationId=NOBODYS)
    (told,), (line,) = log.lines("confirm.not_found"), log.lines("request")
    assert told["request_id"] == line["request_id"]


async def test_under_load_so_many_lines_a_second_are_written_and_the_next_says_how_many_were_not(
    log, client, app, monkeypatch
):
    watch = app.asgi_handler._watch
    monkeypatch.setattr("app.sparing.monotonic", lambda: 1000.0)
    for _ in range(wide.LINES_PER_SECOND + 30):
        await client.get("/health/live")
    assert wide.LINES_PER_SECOND == len(log.lines("request"))
    assert 30 == watch.ordinary.kept_back
    monkeypatch.setattr("app.sparing.monotonic", lambda: 1001.5)
    await client.get("/health/live")
    assert 30 == log.lines("request")[-1]["kept_back"]
    await client.get("/health/live")
    assert "kept_back" not in log.lines("request")[-1]
    assert 30 == watch.ordinary.kept_back


async def test_what_failed_and_what_was_slow_is_not_lost_among_the_others(log, app):
    watch = app.asgi_handler._watch
    watch.ordinary = Sparing(0)
    scope = {"method": "GET", "path_template": "/somewhere"}
    watch.ended(scope, 200, 0.01)
    watch.ended(scope, 404, 0.01)
    watch.ended(scope, 503, 0.01)
    watch.ended(scope, 0, 0.01)
    watch.ended(scope, 200, wide.SLOW_SECONDS)
    assert [(503, "warning"), (0, "warning"), (200, "info")] == [
        (line["status"], line["level"]) for line in log.lines("request")
    ]
    assert 2 == log.lines("request")[0]["kept_back"]


@pytest.mark.parametrize(("asked", "lines"), [("off", 0), ("all", 3 * wide.LINES_PER_SECOND)])
async def test_requests_have_no_lines_or_all_of_them_where_that_is_set(log, settings, database, asked, lines):
    application = create_app(type(settings).read(settings.environment() | {"LASTRO_LOG_REQUESTS": asked}))
    async with running(application), _client(application, await create(database, "all", ALL)) as client:
        for _ in range(3 * wide.LINES_PER_SECOND):
            await client.get("/health/live")
    assert lines == len(log.lines("request"))


async def test_a_confirm_tells_that_it_began_and_what_it_found(log, client):
    await do(client, "grant", accountId="alice", amount=100)
    held = (await do(client, "reserve", accountId="alice", amount=10))["reservation"]["id"]
    done = await do(client, "confirm", reservationId=held, amount=4)
    (began,), (found,) = log.lines("confirm.started"), log.lines("confirm.found")
    assert (held, "key:all", 4) == (began["reservation"], began["by"], began["amount"])
    assert (held, "alice", done["transaction"]["id"], 4, False) == (
        found["reservation"],
        found["account"],
        found["transaction"],
        found["credits"],
        found["replayed"],
    )
    assert ("debug", "debug") == (began["level"], found["level"]), "two with each confirm"


async def test_a_confirm_that_finds_nothing_tells_what_it_looked_for_and_where(log, client, client_of):
    await do(client, "grant", accountId="alice", amount=100)
    alices = (await do(client, "reserve", accountId="alice", amount=1))["reservation"]["id"]
    bob = await client_of("spend", account="bob")
    for asker, body in (
        (client, {"reservationId": NOBODYS}),
        (client, {"taskId": "image-7", "provider": "bfl"}),
        (client, {"reservationId": alices, "accountId": "bob"}),
        (bob, {"reservationId": alices}),
    ):
        await is_refused(asker, "confirm", 404, "reservation_not_found", **body)
    told = log.lines("confirm.not_found")
    everywhere, anothers = "Redis, then the journal", "Redis or the journal, where it is another account's"
    assert [
        ({"reservation": NOBODYS}, everywhere, "key:all"),
        ({"task": "image-7", "provider": "bfl"}, everywhere, "key:all"),
        ({"reservation": alices}, anothers, "key:all"),
        ({"reservation": alices}, anothers, bob_is(told)),
    ] == [(line["looked_for"], line["looked_in"], line["by"]) for line in told]
    assert {"warning"} == {line["level"] for line in told}


def bob_is(told: list[dict[str, Any]]) -> str:
    """By what the journal would call the last asker: a key of its own."""
    assert told[-1]["by"] not in ("key:all", None)
    return str(told[-1]["by"])


async def test_a_confirm_that_comes_too_late_tells_how_it_ended(log, client):
    await do(client, "grant", accountId="alice", amount=100)
    held = (await do(client, "reserve", accountId="alice", amount=10))["reservation"]["id"]
    await do(client, "cancel", reservationId=held, cause="failed")
    answer = await is_refused(client, "confirm", 409, "reservation_cancelled", reservationId=held)
    (line,) = log.lines("confirm.refused")
    assert (held, "reservation_cancelled", "failed") == (line["reservation"], line["code"], line["cause"])
    assert answer["at"].removesuffix("Z") == line["at"].removesuffix("+00:00")


async def test_confirms_of_a_batch_tell_the_same(log, client):
    operations = [op("confirm", reservationId=NOBODYS), op("confirm", taskId="image-7")]
    await do(client, "batch", operations=operations)
    assert [{"reservation": NOBODYS}, {"task": "image-7"}] == sorted(
        (line["looked_for"] for line in log.lines("confirm.not_found")), key=str
    )


async def test_a_flood_of_them_is_cut_short_and_says_so(log, client, monkeypatch):
    monkeypatch.setattr(confirming, "_sparing", Sparing(confirming.LINES_PER_SECOND))
    monkeypatch.setattr("app.sparing.monotonic", lambda: 1000.0)
    operations = [op("confirm", reservationId=NOBODYS)] * (confirming.LINES_PER_SECOND + 5)
    await do(client, "batch", operations=operations)
    assert confirming.LINES_PER_SECOND == len(log.lines("confirm.not_found"))
    monkeypatch.setattr("app.sparing.monotonic", lambda: 1002.0)
    await is_refused(client, "confirm", 404, "reservation_not_found", reservationId=NOBODYS)
    assert 5 == log.lines("confirm.not_found")[-1]["kept_back"]


def test_what_the_standard_library_logs_beside_its_message_is_in_the_line(log):
    logging.getLogger("app.ledger.carrier").warning("redis did not answer", extra={"number": 7})
    logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[36mstarted"})
    (line,) = log.lines("redis did not answer")
    assert (7, "warning") == (line["number"], line["level"])
    assert "color_message" not in log.lines("started")[0]
