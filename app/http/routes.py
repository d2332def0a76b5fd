"""How a route is declared: its scope, its query, and everything that the OpenAPI document says about it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation, Parameter
from msgspec import Struct

from app.http.bodies import Body
from app.http.problems import TABLE, ProblemBody
from app.http.queries import Query
from app.http.wire import Strict

_ALWAYS = (
    "invalid_request",
    "unauthenticated",
    "forbidden",
    "internal_error",
    "ledger_unavailable",
    "overloaded",
)
_WRITING = ("ledger_fenced", "journal_backlogged", "body_too_large")
_HEADERS = [
    Parameter(
        name="Idempotency-Key",
        param_in="header",
        description="1 to 255 printable ASCII characters, bare or quoted. Repeating a request under its key"
        " answers the same and moves nothing again.",
        schema={"type": "string"},  # type: ignore[arg-type]
    ),
    Parameter(
        name="Lastro-Ack",
        param_in="header",
        description="Wait, for at most 5 s, until PostgreSQL has it; `Lastro-Journaled` says whether it has.",
        schema={"type": "string", "enum": ["journaled"]},  # type: ignore[arg-type]
    ),
]


def _problems(codes: Iterable[str]) -> dict[int, ResponseSpec]:
    """One response a status, which names its codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(TABLE[code].status, []).append(code)
    return {
        status: ResponseSpec(
            data_container=ProblemBody,
            description=", ".join(f"`{code}`" for code in names),
            media_type="application/problem+json",
            generate_examples=False,
        )
        for status, names in sorted(by_status.items())
    }


def _documented(extra: list[Parameter]) -> type[Operation]:
    """The operation with parameters that Litestar does not read itself."""

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *extra]

    return Documented


def _parameters(query: type[Query]) -> list[Parameter]:
    (_, components) = msgspec.json.schema_components([query], ref_template="#/components/schemas/{name}")
    schema = components[query.__name__]
    return [
        Parameter(
            name=name,
            param_in="query",
            required=name in schema.get("required", ()),
            description=shape.pop("description", None),
            schema=shape,
        )
        for name, shape in schema["properties"].items()
    ]


def verb(
    path: str,
    body: type[Body],
    *,
    scope: str,
    status: int,
    refusals: tuple[str, ...],
    summary: str,
    name: str = "",
) -> Callable[[Any], Any]:
    """A route that moves credits."""
    route = put if name else post
    return route(
        path,
        dto=Strict[body],  # type: ignore[valid-type]
        return_dto=None,
        status_code=status,
        opt={"scope": scope},
        operation_id=name or path.strip("/"),
        operation_class=_documented(_HEADERS),
        responses=_problems(("idempotency_mismatch", *refusals, *_ALWAYS, *_WRITING)),
        summary=summary,
    )


def operating(
    path: str, body: type[Body], *, name: str, status: int, summary: str, refusals: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """A route by which operators set something going that moves no credits."""
    return post(
        path,
        dto=Strict[body],  # type: ignore[valid-type]
        return_dto=None,
        status_code=status,
        opt={"scope": "operate"},
        operation_id=name,
        responses=_problems((*refusals, *_ALWAYS, "body_too_large")),
        summary=summary,
    )


def reading(
    path: str,
    *,
    name: str,
    summary: str,
    query: type[Query] | None = None,
    refusals: tuple[str, ...] = (),
    scope: str = "read",
) -> Callable[[Any], Any]:
    """A route that reads."""
    return get(
        path,
        opt={"scope": scope} | ({"query": query} if query else {}),
        operation_id=name,
        operation_class=_documented(_parameters(query) if query else []),
        responses=_problems((*refusals, *_ALWAYS)),
        summary=summary,
    )


def opened(
    path: str, *, name: str, summary: str, answers: type[Struct] | None = None
) -> Callable[[Any], Any]:
    """A route that is open to all."""
    unavailable = (
        {503: ResponseSpec(answers, description="Not now.", generate_examples=False)} if answers else None
    )
    return get(
        path, opt={"scope": "open"}, security=[{}], operation_id=name, summary=summary, responses=unavailable
    )
