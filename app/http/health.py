"""`/health`: for whoever starts, stops and balances processes. Open to all, and so it says little."""

from litestar import Controller

from app.http.answers import Live, Ready
from app.http.routes import opened
from app.http.wire import Answer, LedgerRequest


class Health(Controller):
    """Live and ready."""

    path = "/health"
    tags = ("health",)

    @opened("/live", name="live", summary="Whether the process runs")
    async def live(self) -> Answer[Live]:
        """Looks at nothing: restart the process when this does not answer."""
        return Answer(Live(status="live"))

    @opened("/ready", name="ready", summary="Whether requests should come here", answers=Ready)
    async def ready(self, request: LedgerRequest) -> Answer[Ready]:
        """200 while Redis answers and at least one shard is unfenced; `degraded` names what else fails."""
        standing = await request.parts.checking.standing()
        if not standing.serves:
            return Answer(Ready(status="unavailable", degraded=standing.failing), status_code=503)
        return Answer(Ready(status="degraded" if standing.failing else "ready", degraded=standing.failing))
