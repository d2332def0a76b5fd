"""`/docs`: the OpenAPI 3.1 document and a viewer that needs no internet.

RapiDoc comes with the program (`static/`, with its licence); the page's content policy lets it load nothing
from anywhere else.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from app.http import (
    accounts,
    alerts,
    answers,
    batched,
    cleaning,
    crediting,
    examples,
    inbox,
    models,
    monitored,
    receipts,
    reconciliation,
    searching,
    settling,
    spending,
    statements,
    told,
    webhooks,
)
from app.http.auth import OPEN
from app.http.problems import ProblemBody
from app.http.wire import Answer

CONTRACT = "1.0.0"
DOCUMENT = "/docs/openapi.json"
VIEWER = "/docs/rapidoc.js"

_SHOWN = [
    crediting.GrantBody,
    crediting.RefundBody,
    crediting.AdjustBody,
    crediting.SettingsBody,
    spending.DeductBody,
    spending.ReserveBody,
    settling.ConfirmBody,
    settling.CancelBody,
    settling.ExtendBody,
    settling.TaskBody,
    batched.BatchBody,
    batched.BatchAnswer,
    receipts.Moved,
    receipts.Adjusted,
    receipts.Settled,
    receipts.Reserved,
    accounts.AccountShown,
    accounts.AccountChanged,
    alerts.AlertsShown,
    answers.Balance,
    answers.Page,
    answers.TaskFound,
    answers.Live,
    answers.Ready,
    models.RateBody,
    models.QuoteBody,
    models.RateShown,
    models.RatesShown,
    models.Quoted,
    searching.FoundAccounts,
    searching.Reservations,
    statements.Statement,
    cleaning.CleanupBody,
    cleaning.CleanedShown,
    cleaning.Counted,
    cleaning.AutoCleanupBody,
    cleaning.StandingShown,
    reconciliation.RunBody,
    reconciliation.RunShown,
    reconciliation.Runs,
    monitored.OverviewShown,
    monitored.HealthShown,
    monitored.UsageShown,
    monitored.TopUsersShown,
    monitored.ModelsShown,
    monitored.DashboardShown,
    webhooks.Delivered,
    inbox.Deliveries,
    inbox.DeliveryWhole,
    inbox.ReplayBody,
    told.EndpointBody,
    told.EndpointChange,
    told.EndpointShown,
    told.EndpointMade,
    told.Endpoints,
    told.EventReplayBody,
    told.EventShown,
    told.EventsShown,
    ProblemBody,
]
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; font-src data:;"
    b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lastro</title>
<script type="module" src="{VIEWER}"></script>
</head>
<body>
<rapi-doc spec-url="{DOCUMENT}" load-fonts="false" regular-font="system-ui, sans-serif" mono-font="monospace"
 render-style="read" show-header="false" schema-style="table" allow-spec-url-load="false"
 allow-spec-file-load="false" allow-server-selection="false" persist-auth="false"></rapi-doc>
</body>
</html>
""".encode()

_ABOUT = """A ledger of prepaid credits. Amounts are whole credits, 1 to 9007199254740991; times are RFC 3339.

Send `Authorization: Bearer <api key>`. Repeat a POST under the same `Idempotency-Key` as often as you like:
it is done once and answered alike, with `Idempotency-Replayed: true`. What is wrong is told as
`application/problem+json` with a stable `code`; after a 503 repeat with the same key."""


class _Page(OpenAPIRenderPlugin):
    """Only the place for the page: `render` is what `GET /docs` answers."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return _PAGE


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return msgspec.json.encode(described(openapi_schema))


def described(document: dict[str, Any]) -> dict[str, Any]:
    """Litestar's document with msgspec's schemas, which are those that bodies are read by, and with examples.

    Litestar's own leave out what is at most, what is at least 0, and that unknown fields are refused.
    """
    _, schemas = msgspec.json.schema_components(_SHOWN, ref_template="#/components/schemas/{name}")
    return examples.added(document | {"components": document["components"] | {"schemas": schemas}})


@cache
def _viewer() -> bytes:
    return files("app.http").joinpath("static/rapidoc-min.js").read_bytes()


@get("/rapidoc.js", include_in_schema=False)
async def rapidoc() -> Answer[bytes]:
    """The viewer."""
    return Answer(_viewer(), media_type=b"text/javascript; charset=utf-8", cache=b"public, max-age=86400")


async def _only_known(request: Request[Any, Any, Any]) -> None:
    """Litestar answers unknown paths under a document's path with a page of its own."""
    if request.scope["path"] not in ("/docs", DOCUMENT, VIEWER):
        raise NotFoundException


def config() -> OpenAPIConfig:
    """The document's frame and where it is served."""
    router = Router(
        "/docs",
        route_handlers=[rapidoc],
        opt={"scope": OPEN},
        before_request=_only_known,
        response_class=Response,
        response_headers={"content-security-policy": _POLICY.decode()},
        include_in_schema=False,
    )
    return OpenAPIConfig(
        title="Lastro",
        version=CONTRACT,
        description=_ABOUT,
        openapi_router=router,
        render_plugins=[_Page(path="/"), _Document(path="/openapi.json")],
        components=Components(
            security_schemes={
                "key": SecurityScheme(
                    type="http", scheme="bearer", description="An API key of `lastro keys create`."
                ),
                "user": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="JWT",
                    description="A user's token, of whoever lets users in: to read what is theirs, and for"
                    " what `LASTRO_USER_SCOPES` names.",
                ),
            }
        ),
        security=[{"key": []}],
        use_handler_docstrings=True,
    )
