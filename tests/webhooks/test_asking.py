"""How a task stands is asked of a real server; what is no answer about it changes nothing."""

import gzip
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
from structlog.testing import capture_logs

from app.webhooks import asking
from app.webhooks.asking import ANSWER_BYTES_MAX, ASKED, ask
from app.webhooks.event import Event
from tests.webhooks.server import Answer, Server, serving

TRUST = ssl.create_default_context()  # which takes long to make
TASK, KEY = "task-1", "a key of theirs"
of_all = pytest.mark.parametrize("name", ASKED)

PATHS = {
    "bfl": "/v1/get_result?id=task-1",
    "luma": "/dream-machine/v1/generations/task-1",
    "runway": "/v1/tasks/task-1",
    "sync": "/v2/generate/task-1",
}
KEYS = {
    "bfl": {"x-key": KEY},
    "luma": {"authorization": f"Bearer {KEY}"},
    "runway": {"authorization": f"Bearer {KEY}", "x-runway-version": "2024-11-06"},
    "sync": {"x-api-key": KEY},
}
ENDINGS = [
    ("bfl", {"status": "Ready", "result": {"sample": "https://a"}}, "succeeded", None),
    ("bfl", {"status": "Pending", "progress": 0.5}, "progress", None),
    ("bfl", {"status": "Request Moderated", "details": {}}, "failed", "Request Moderated"),
    ("luma", {"state": "completed", "assets": {"video": "https://a"}}, "succeeded", None),
    ("luma", {"state": "dreaming", "failure_reason": None}, "progress", None),
    ("luma", {"state": "failed", "failure_reason": "too dark"}, "failed", "too dark"),
    ("runway", {"status": "SUCCEEDED", "output": ["https://a"]}, "succeeded", None),
    ("runway", {"status": "THROTTLED"}, "progress", None),
    ("runway", {"status": "FAILED", "failure": "unsafe", "failureCode": "SAFETY"}, "failed", "unsafe"),
    ("sync", {"status": "COMPLETED", "outputDuration": 4.2}, "succeeded", None),
    ("sync", {"status": "PROCESSING"}, "progress", None),
    ("sync", {"status": "FAILED", "error": "no face", "errorCode": "x"}, "failed", "no face"),
]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=TRUST) as client:
        yield client


def good(name: str) -> dict[str, object]:
    return {"id": TASK, **next(fields for each, fields, *_ in ENDINGS if each == name)}


async def why_not(server: Server, client: httpx.AsyncClient, name: str, task: str = TASK) -> str:
    """What the log says of the `None` that comes."""
    with capture_logs() as logs:
        assert await ask(name, task, KEY, client, base=server.url) is None
    (line,) = logs
    assert (name, task, "warning") == (line["provider"], line["task"], line["log_level"])
    assert KEY not in str(line)
    return line["why"]


@pytest.mark.parametrize(("name", "fields", "outcome", "reason"), ENDINGS)
async def test_an_answer_is_read_as_a_webhook_would_be(server, client, name, fields, outcome, reason):
    server.answer = Answer({"id": TASK, **fields})
    event = await ask(name, TASK, KEY, client, base=server.url)
    assert isinstance(event, Event)
    assert (name, TASK, outcome, reason) == (event.provider, event.task, event.outcome, event.reason)


@of_all
async def test_everybody_is_asked_in_his_own_way(server, client, name):
    server.answer = Answer(good(name))
    await ask(name, TASK, KEY, client, base=server.url)
    (request,) = server.requests
    assert f"GET {PATHS[name]} HTTP/1.1" == request.line
    assert KEYS[name].items() <= request.headers.items()


@of_all
@pytest.mark.parametrize("task", ["../other", "a/b?c=d#e&id=f", "%2e%2e", "a b", "a\r\nx-y: z", "..%2f", "é"])
async def test_no_task_leads_to_another_place(server, client, name, task):
    assert "404" in await why_not_found(server, client, name, task)
    (path,) = server.paths
    around = PATHS[name].removesuffix(TASK)
    assert path.startswith(around)
    assert not set("/?#& ") & set(path.removeprefix(around))
    assert 1 == len([each for each in server.requests if "x-y" not in each.headers])


async def why_not_found(server: Server, client: httpx.AsyncClient, name: str, task: str) -> str:
    server.answer = Answer({}, "404 Not Found")
    return await why_not(server, client, name, task)


@of_all
@pytest.mark.parametrize("task", [".", ".."])
async def test_a_task_that_is_a_step_in_a_path_is_not_asked_for(server, client, name, task):
    await why_not(server, client, name, task)
    assert [] == server.requests


@of_all
@pytest.mark.parametrize(
    "status",
    ["404 Not Found", "401 Unauthorized", "429 Too Many Requests", "500 No", "201 Created", "204 Nothing"],
)
async def test_only_200_is_an_answer(server, client, name, status):
    server.answer = Answer(good(name), status)
    assert status[:3] in await why_not(server, client, name)


@of_all
async def test_a_key_is_not_carried_to_where_an_answer_points(server, client, name):
    async with serving() as other:
        other.answer = Answer(good(name))
        server.answer = Answer({}, "302 Found", (f"location: {other.url}/v1",))
        assert "302" in await why_not(server, client, name)
        assert [] == other.requests


@of_all
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", {}, {"id": TASK}, b"\xff", b"[" * 100_000])
async def test_what_nobody_understands_is_no_answer(server, client, name, body):
    server.answer = Answer(body)
    assert await why_not(server, client, name)


@of_all
async def test_an_answer_about_another_task_is_none(server, client, name):
    server.answer = Answer({**good(name), "id": "task-2"})
    assert "another task" in await why_not(server, client, name)


async def test_a_task_that_bfl_does_not_know_is_no_failure(server, client):
    server.answer = Answer({"id": TASK, "status": "Task not found"})
    assert "should be one of" in await why_not(server, client, "bfl")


async def test_an_answer_that_does_not_end_is_not_read_to_its_end(server, client):
    server.answer = Answer(b" " * (ANSWER_BYTES_MAX + 100_000), told=10**12)
    assert f"longer than {ANSWER_BYTES_MAX} bytes" in await why_not(server, client, "luma")


async def test_what_is_packed_is_not_unpacked(server, client):
    bomb = gzip.compress(b" " * 50_000_000)
    server.answer = Answer(bomb, headers=("content-encoding: gzip",))
    assert "no JSON" in await why_not(server, client, "luma")
    assert "identity" == server.requests[0].headers["accept-encoding"]


async def test_an_answer_that_is_cut_off_is_none(server, client):
    server.answer = Answer(good("luma"), told=10_000)
    assert await why_not(server, client, "luma")


async def test_an_answer_that_comes_too_late_is_none(server, client, monkeypatch):
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.2)
    server.answer = Answer(good("luma"), after_seconds=1)
    assert "TimeoutError" == await why_not(server, client, "luma")


async def test_nobody_at_home_is_no_answer(client):
    async with serving() as server:
        pass
    assert await why_not(server, client, "luma")


async def test_a_key_that_cannot_be_sent_is_no_fault(server, client):
    for key in ("line\nbreak", "é\u0100"):
        with capture_logs():
            assert await ask("luma", TASK, key, client, base=server.url) is None
    assert [] == server.requests


async def test_by_default_everybody_is_asked_at_home():
    assert all(each.base.startswith("https://") for each in ASKED.values())
