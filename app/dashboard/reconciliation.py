"""Redis against the journal: what the last runs found, and how far the chain was proved."""

from litestar import Controller
from msgspec import UNSET, UnsetType

from app.dashboard.doing import Did, Doing
from app.dashboard.pages import PageRequest, form, once, page, see
from app.dashboard.showing import link
from app.http.problems import Problem
from app.http.shapes import Uuid
from app.http.wire import Answer
from app.operators import Asked
from app.reconciliations import Reconciliation

HERE = "/dashboard/reconciliation"
ABOUT = "reconciliation"
RUNS_SHOWN = 20
DIFFERENCES_SHOWN = 200


class RunsQuery(Did, kw_only=True):
    """Whose differences are shown; by default those of the latest run that found some."""

    run: Uuid | UnsetType = UNSET


class Reconciliations(Controller):
    """Past runs, and starting one."""

    path = "/reconciliation"

    @page("/")
    async def runs(self, request: PageRequest) -> Answer[bytes]:
        """The latest runs, with the differences of one."""
        asked = request.asked(RunsQuery)
        runs = await request.parts.reconciliations.runs(RUNS_SHOWN)
        return request.page(
            "reconciliation.html",
            runs=runs,
            looked_at=_chosen(runs, asked.run),
            differences_shown=DIFFERENCES_SHOWN,
            shards=await request.parts.journaling.shards() if request.wants("runs") else [],
            actions=await request.actions(about=ABOUT) if request.region is None else [],
            did=asked.did or None,
            once=once(),
        )

    @form("/")
    async def run(self, request: PageRequest) -> Answer[bytes]:
        """Ask for a run, which the workers begin within seconds; the one that runs already, if one does."""
        given = request.sent(Doing)
        by = request.visitor.known.by

        async def do() -> str:
            return f"run {(await request.parts.reconciliations.start(by)).id}"

        asked = Asked(key=given.once, act="reconcile", by=by, reason=given.reason, about=ABOUT)
        return see(link(HERE, did=await request.by_hand(asked, do)))


def _chosen(runs: list[Reconciliation], run: str | UnsetType) -> Reconciliation | None:
    """The run that was asked about, or the latest that found something."""
    if run is UNSET:
        return next((each for each in runs if each.drift), None)
    found = next((each for each in runs if each.id == run.lower()), None)
    if found is None:
        raise Problem("not_found", {})
    return found
