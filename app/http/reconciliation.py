"""`/api/credits/reconciliation`: past runs, and starting one."""

from typing import Annotated

from litestar import Controller
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from app.http import shapes
from app.http.bodies import Body
from app.http.queries import Query
from app.http.routes import operating, reading
from app.http.times import iso, milliseconds
from app.http.wire import Answer, LedgerRequest
from app.reconciliations import Difference, Reconciliation


class RunsQuery(Query):
    """How many runs."""

    integers = frozenset({"limit"})

    limit: shapes.Limit = 50


class RunBody(Body):
    """Nothing can be chosen."""


class RunShown(Struct, rename="camel", omit_defaults=True):
    """A run of the reconciliation."""

    id: str
    started_at: str
    status: Annotated[
        str,
        Meta(
            pattern="^(running|equal|drift|unknown)$",
            description="`unknown`: it could not tell, because the journal was behind or a shard is fenced.",
        ),
    ]
    accounts: Annotated[int, Meta(description="How many were compared.")]
    drift: Annotated[
        list[Difference],
        Meta(
            description="At most the first 1,000 differences. `redis` is what Redis has (in a field"
            " `projection.*` or `journal.*`: that table), `journal` what the entries add up to."
        ),
    ]
    finished_at: str | UnsetType = UNSET


class Runs(Struct):
    """Runs, newest first."""

    data: list[RunShown]


class ReconciliationRuns(Controller):
    """Redis against the journal."""

    path = "/api/credits/reconciliation"
    tags = ("operating",)

    @reading(
        "/",
        name="reconciliations",
        scope="operate",
        query=RunsQuery,
        summary="Runs of the reconciliation, newest first",
    )
    async def runs(self, request: LedgerRequest) -> Answer[Runs]:
        """One runs by itself every 10 minutes. A drifted account refuses, alone, until it is repaired."""
        query = request.asked(RunsQuery)
        request.caller.concerns_all("Reconciliations are")
        return Answer(Runs([_shown(each) for each in await request.parts.reconciliations.runs(query.limit)]))

    @operating("/", RunBody, name="reconcile", status=202, summary="Start a reconciliation")
    async def start(self, data: JSONBody[RunBody], request: LedgerRequest) -> Answer[RunShown]:  # noqa: ARG002
        """The workers begin it within seconds; look for its `id`. While one runs, that one is answered."""
        request.caller.concerns_all("Reconciliations are")
        return Answer(_shown(await request.parts.reconciliations.start(request.caller.principal.by)))


def _shown(run: Reconciliation) -> RunShown:
    return RunShown(
        id=run.id,
        started_at=iso(milliseconds(run.started_at)),
        status=run.status,
        accounts=run.accounts,
        drift=run.drift,
        finished_at=iso(milliseconds(run.finished_at)) if run.finished_at else UNSET,
    )
