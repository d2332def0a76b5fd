"""Whatever the OpenAPI document lets ask is asked, with credentials of each scope and of a user: nothing is
answered with a 500, and everything as the document says.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self

import httpx
import hypothesis
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from app.http.docs import described
from app.settings import Settings
from persistence.api_keys import create
from persistence.birth import give_birth
from persistence.drain import drain
from persistence.pool import open_pool
from tests.http.conftest import ALL, SHARDS, running
from tests.http.people import settings_with_users, token
from tests.http.serving import create_app
from tests.http.steps import CREDITS

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
WHO = [*ALL, "everything", "a user"]
STORES = {"redis_url": "redis://nowhere.test", "database_url": "postgresql://nowhere.test/"}

Ask = Callable[[str, dict[str, Any]], httpx.Response]


def operations() -> dict[str, Any]:
    """Those of the document, by their names."""
    raw = described(create_app(Settings(**STORES)).openapi_schema.to_schema())
    schema = schemathesis.openapi.from_dict(msgspec.json.decode(msgspec.json.encode(raw)))
    found = [each.ok() for each in schema.get_all_operations()]
    return {each.definition.raw["operationId"]: each for each in found}


OPERATIONS = operations()


def good(operation: Any) -> Any:
    """Requests of an operation as the document has them."""
    return operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)


def wrong(operation: Any) -> Any:
    """Requests of an operation as the document does not have them, where anything can be wrong."""
    if not (operation.body or operation.query or operation.path_parameters):
        return good(operation)
    return operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)


class Served:
    """The application in a loop of its own, so that what is generated may ask and wait."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self._stores = redis_url, database_url
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._headers: dict[str, dict[str, str]] = {}
        self._client: httpx.AsyncClient | None = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._live(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _live(self) -> None:
        redis_url, database_url = self._stores
        await give_birth(database_url, redis_url, SHARDS)
        usual = Settings(redis_url=redis_url, database_url=database_url, shards=SHARDS)
        application = create_app(settings_with_users(usual))
        journal = asyncio.create_task(drain(database_url, redis_url, 600.0, keep=None))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(application))
            pool = await stack.enter_async_context(await open_pool(database_url, connections_max=1))
            for who in ALL:
                self._knows(who, await create(pool, who, [who]))
            self._knows("everything", await create(pool, "everything", ALL))
            self._knows("a user", token("alice"))
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            self._client = await stack.enter_async_context(
                httpx.AsyncClient(transport=transport, base_url="http://lastro.test")
            )
            granted = await self._client.post(
                f"{CREDITS}/grant",
                json={"accountId": "alice", "amount": 1000},
                headers=self._headers["everything"],
            )
            assert 201 == granted.status_code
            self._started.set()
            await self._stop.wait()
        journal.cancel()
        await asyncio.wait({journal})

    def _knows(self, who: str, credential: str) -> None:
        self._headers[who] = {"authorization": f"Bearer {credential}"}

    def ask(self, who: str, request: dict[str, Any]) -> httpx.Response:
        """The answer to a request of somebody."""
        assert self._client is not None
        headers = [
            (name.encode("latin-1"), str(value).encode("latin-1", "replace"))
            for name, value in (dict(request.pop("headers", {})) | self._headers[who]).items()
            if name != "Authorization"
        ]
        request.pop("cookies")  # there are none
        if isinstance(request.get("data"), bytes | str):
            request["content"] = request.pop("data")
        answer = self._client.request(headers=headers, **request)
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result(30)


@pytest.fixture
def served(redis_url: str, database_url: str) -> Iterator[Served]:
    with Served(redis_url, database_url) as served:
        yield served


@pytest.mark.parametrize("who", WHO)
def test_everything_that_the_document_lets_ask_is_answered_as_it_says(who, served, nightly):
    answered: set[int] = set()
    for operation in OPERATIONS.values():

        @hypothesis.settings(
            max_examples=200 if nightly else 5,
            deadline=None,
            derandomize=not nightly,
            database=None,
            phases=[Phase.explicit, Phase.generate],  # what fails is small as it is
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=good(operation) | wrong(operation))
        def asked(case: schemathesis.Case) -> None:
            answer = served.ask(who, case.as_transport_kwargs(base_url="http://lastro.test"))
            answered.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        asked()
    assert {200, 400, 404} <= answered, "the doors that are open answer in these ways, whoever asks"


def test_every_operation_of_the_document_is_asked():
    assert len(OPERATIONS) > 30
    assert {"grant", "reserve", "batch", "balance", "webhook", "events", "ready"} <= OPERATIONS.keys()
