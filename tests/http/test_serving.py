"""Applications of one test process share their routes, and nothing else."""

import asyncio

import httpx
import msgspec

from app.dashboard.attempts import FAILURES_MAX
from app.http.door import Door
from app.main import create_app as create_alone
from app.settings import Settings
from persistence.api_keys import create
from tests.http.conftest import ALL, _client, running
from tests.http.serving import create_app
from tests.http.steps import do

PAGE = "https://shop.example"


def kept(app) -> list[object]:
    """What an application keeps, and what it is told by."""
    door = app.asgi_handler
    assert isinstance(door, Door)
    return [
        app.state,
        app.state._state,
        app.state.parts,
        app.state.attempts,
        door,
        door._watch,
        app.event_emitter,
    ]


async def test_applications_at_the_same_time_keep_nothing_in_common(app, settings):
    async with running(other := create_app(settings)):
        assert {*map(id, kept(app))} & {*map(id, kept(other))} == set()
        parts, others = app.state.parts, other.state.parts
        assert {name for name in parts.__slots__ if getattr(parts, name) is getattr(others, name)} <= {
            "holds_max",
            "limiter",
        }


async def test_one_after_the_other_each_has_its_own_settings_door_and_counts(settings, database):
    token = await create(database, "all", ALL)
    strict = msgspec.structs.replace(settings, holds_max=1, cors_origins=PAGE)
    async with running(first := create_app(strict)), _client(first, token) as client:
        answer = await client.get("/health/live", headers={"origin": PAGE})
        assert PAGE == answer.headers["access-control-allow-origin"]
        await do(client, "grant", accountId="alice", amount=100)
        for _ in range(FAILURES_MAX):
            first.state.attempts.failed("127.0.0.1")
    async with running(second := create_app(settings)), _client(second, token) as client:
        answer = await client.get("/health/live", headers={"origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers
        assert {("GET", "/health/live", 200)} == {*second.asgi_handler._watch.answered}
        assert settings.holds_max == second.state.parts.holds_max
        assert 0 == second.state.attempts.wait_seconds("127.0.0.1")


async def test_a_server_starts_and_ends_the_application_that_it_serves(settings):
    """By ASGI's own messages, as uvicorn does, and not the one whose routes they are."""
    app, told = create_app(settings), []
    asked = asyncio.Queue()
    asked.put_nowait({"type": "lifespan.startup"})

    async def tell(message) -> None:
        told.append((message["type"], app.state.parts))
        if message["type"] == "lifespan.startup.complete":
            asked.put_nowait({"type": "lifespan.shutdown"})

    await app({"type": "lifespan", "asgi": {}, "state": {}}, asked.get, tell)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == [each for each, _ in told]


async def test_routes_are_those_of_an_application_of_its_own():
    settings = Settings(redis_url="redis://nowhere.test", database_url="postgresql://nowhere.test/")
    shared, alone = create_app(settings), create_alone(settings)
    alone.state.parts = shared.state.parts = None
    documents = []
    for app in (shared, alone):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lastro.test") as client:
            documents.append((await client.get("/docs/openapi.json")).json())
    assert documents[0] == documents[1]
    assert {(route.path, *sorted(route.methods)) for route in shared.routes} == {
        (route.path, *sorted(route.methods)) for route in alone.routes
    }
