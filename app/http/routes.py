"""How a route is declared: its scope, its query, and everything that the OpenAPI document says about it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import delete, get, patch, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Parameter, Schema
from msgspec import Struct

from app.access import VERBS
from app.http.bodies import Asking, Body
from app.http.codes import TABLE
from app.http.problems import ProblemBody
from app.http.queries import Query
from app.http.wire import Strict

_ALWAYS = (
    "invalid_request",
    "unauthenticated",
    "forbidden",
    "rate_limited",
    "internal_error",
    "ledger_unavailable",
    "overloaded",
)
_AWAY = ("ledger_unavailable", "ledger_fenced", "journal_backlogged", "overloaded")
_WRITING = ("ledger_fenced", "journal_backlogged", "body_too_large")
_KEY = Parameter(
    name="Idempotency-Key",
    param_in="header",
    description="1 to 255 printable ASCII characters, bare or quoted. Repeating a request under its key"
    " answers the same and moves nothing again.",
    schema={"type": "string"},  # type: ignore[arg-type]
)
_ACK = Parameter(
    name="Lastro-Ack",
    param_in="header",
    description="Wait, for at most 5 s, until PostgreSQL has it; `Lastro-Journaled` says whether it has.",
    schema={"type": "string", "enum": ["journaled"]},  # type: ignore[arg-type]
)


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


def _documented(
    extra: Sequence[Parameter], also: Mapping[str, str] = MappingProxyType({})
) -> type[Operation]:
    """The operation with parameters that Litestar does not read itself, and with further media types of its
    success, each with what is said about it.
    """

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *extra]
            for media_type, description in also.items():
                text = Schema(type=OpenAPIType.STRING, description=description)
                self.responses["200"].content[media_type] = OpenAPIMediaType(schema=text)  # type: ignore[index, union-attr]

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


def _of_users(verb: str) -> str | None:
    """The verb, where users may be allowed it."""
    return verb if verb in VERBS else None


def _security(user: str | frozenset[str] | None) -> list[dict[str, list[str]]]:
    """With what one may come: a key, and where there is something for users, a token of theirs."""
    return [{"key": []}, {"user": []}] if user else [{"key": []}]


def verb(
    body: type[Asking],
    *,
    refusals: tuple[str, ...],
    summary: str,
    path: str = "",
    route: Callable[..., Any] = post,
) -> Callable[[Any], Any]:
    """A route that asks the ledger for something, by default `POST /<verb>`."""
    return _writing(
        path or f"/{body.verb}",
        body,
        name=body.verb,
        route=route,
        scope=body.scope,
        user=_of_users(body.verb),
        status=body.success,
        refusals=("idempotency_mismatch", *refusals),
        summary=summary,
    )


def several(
    path: str, body: type[Body], *, name: str, scope: frozenset[str], refusals: tuple[str, ...], summary: str
) -> Callable[[Any], Any]:
    """A route that asks the ledger for many things, each for its own scope."""
    return _writing(
        path,
        body,
        name=name,
        route=post,
        scope=scope,
        user=VERBS,
        status=200,
        refusals=refusals,
        summary=summary,
    )


def setting(
    path: str, body: type[Body], *, name: str, refusals: tuple[str, ...], summary: str
) -> Callable[[Any], Any]:
    """A route that changes settings in the ledger, which needs no key."""
    return _writing(
        path,
        body,
        name=name,
        route=patch,
        scope="operate",
        status=200,
        refusals=refusals,
        summary=summary,
        headers=[_ACK],
    )


def _writing(
    path: str,
    body: type[Body],
    *,
    name: str,
    route: Callable[..., Any],
    scope: str | frozenset[str],
    user: str | frozenset[str] | None = None,
    status: int,
    refusals: tuple[str, ...],
    summary: str,
    headers: Sequence[Parameter] = (),
) -> Callable[[Any], Any]:
    return route(  # type: ignore[no-any-return]
        path,
        dto=Strict[body],  # type: ignore[valid-type]
        return_dto=None,
        status_code=status,
        opt={"scope": scope, "user": user},
        security=_security(user),
        operation_id=name,
        operation_class=_documented(headers or [_KEY, _ACK]),
        responses=_problems((*refusals, *_ALWAYS, *_WRITING)),
        summary=summary,
    )


def operating(
    path: str,
    body: type[Body],
    *,
    name: str,
    status: int,
    summary: str,
    refusals: tuple[str, ...] = (),
    scope: str = "operate",
    route: Callable[..., Any] = post,
) -> Callable[[Any], Any]:
    """A route that takes a body and moves no credits; most are for operators."""
    return route(  # type: ignore[no-any-return]
        path,
        dto=Strict[body],  # type: ignore[valid-type]
        return_dto=None,
        status_code=status,
        opt={"scope": scope, "user": _of_users(name)},
        security=_security(_of_users(name)),
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
    users: bool = False,
    media_type: str = "application/json",
    also: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Any], Any]:
    """A route that reads. `users`: theirs, too; it shows them nothing but what is of their accounts. `also`:
    further media types, and what is said about them.
    """
    return get(
        path,
        media_type=media_type,
        opt={"scope": scope, "user": "read" if users else None} | ({"query": query} if query else {}),
        security=_security("read" if users else None),
        operation_id=name,
        operation_class=_documented(_parameters(query) if query else [], also),
        responses=_problems((*refusals, *_ALWAYS)),
        summary=summary,
    )


def removing(path: str, *, name: str, summary: str, refusals: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """A route for operators that takes something away, and answers what that was."""
    return delete(
        path,
        status_code=200,
        opt={"scope": "operate", "user": None},
        security=_security(None),
        operation_id=name,
        responses=_problems((*refusals, *_ALWAYS)),
        summary=summary,
    )


def delivering(path: str, *, name: str, summary: str) -> Callable[[Any], Any]:
    """A route that is open to all and reads the raw body, which has to prove itself."""
    return post(
        path,
        opt={"scope": "open"},
        security=[{}],
        status_code=200,
        operation_id=name,
        responses=_problems(
            ("invalid_request", "unauthenticated", "not_found", "body_too_large", "internal_error", *_AWAY)
        ),
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
