"""All that a scrape shows, as text for Prometheus."""

from collections.abc import Iterator, Sequence

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric

from app.metrics.process import Process
from app.metrics.whole import Whole


class _Collected:
    """What was collected, in the place of a registry."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


class Exported:
    """`app.http.parts.Metrics`."""

    def __init__(self, process: Process, whole: Whole) -> None:
        self._process = process
        self._whole = whole

    async def text(self) -> bytes:
        """The whole first: it has to be waited for."""
        whole = await self._whole.metrics()
        return generate_latest(_Collected([*self._process.metrics(), *whole]))
