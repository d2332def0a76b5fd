"""`GET /metrics`: for Prometheus, or whoever speaks its language."""

from litestar import Controller

from app.http.routes import reading
from app.http.wire import Answer, LedgerRequest

TEXT = "text/plain"
FORMAT = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics(Controller):
    """What there is to count."""

    path = "/metrics"
    tags = ("operating",)

    @reading("/", name="metrics", media_type=TEXT, summary="Numbers for Prometheus")
    async def metrics(self, request: LedgerRequest) -> Answer[bytes]:
        """Counters are of the process that answers; gauges of the whole ledger are the same in all of them,
        at most some seconds old, and left out while nobody can tell.
        """
        request.caller.concerns_all("Metrics are")
        return Answer(await request.parts.metrics.text(), media_type=FORMAT)
