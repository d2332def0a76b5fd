"""What a scrape shows of this process alone: what it has answered and what its engine has done. Counters
begin at 0 with the process.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import TypeVar

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric

from app.http.wide import Watch
from app.ledger.ledger import Ledger
from app.ledger.operations import verb_of
from app.ledger.tally import Histogram

Labels = TypeVar("Labels", bound=tuple[str, ...])


class Process:
    """Reads what others have counted. `queue_max`: how many operations may wait."""

    def __init__(self, watch: Watch, ledger: Ledger, queue_max: int) -> None:
        self._watch = watch
        self._ledger = ledger
        self._queue_max = queue_max
        self._itself = ProcessCollector(registry=None)

    def metrics(self) -> Iterator[Metric]:
        """As it is now."""
        yield InfoMetricFamily("lastro_build", "The release that runs.", value={"version": version("lastro")})
        yield from self._of_requests()
        yield from self._of_engine()
        yield _counted(
            "lastro_webhook_deliveries",
            "Webhooks that were delivered, by what came of them.",
            ("provider", "status"),
            self._watch.deliveries,
        )
        yield from self._itself.collect()

    def _of_requests(self) -> Iterator[Metric]:
        watch = self._watch
        yield _counted(
            "lastro_http_requests",
            "Requests that were answered.",
            ("method", "route", "status"),
            {
                (method, _shown(route), str(status)): sum(histogram.counts)
                for (method, route, status), histogram in watch.answered.items()
            },
        )
        yield _counted(
            "lastro_http_problems",
            "Answers that said what was wrong, by code.",
            ("route", "code"),
            {(_shown(route), code): count for (route, code), count in watch.problems.items()},
        )
        yield _distributed(
            "lastro_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            "route",
            self._by_route(),
        )
        yield GaugeMetricFamily(
            "lastro_http_requests_in_progress", "Requests that are being answered.", value=watch.open
        )
        yield CounterMetricFamily(
            "lastro_log_lines_kept_back",
            "Lines of requests that were not written, because there were too many.",
            value=watch.ordinary.kept_back + watch.notable.kept_back,
        )

    def _by_route(self) -> dict[str, Histogram]:
        """Whatever their status was."""
        found: dict[str, Histogram] = {}
        for (_, route, _), histogram in self._watch.answered.items():
            found.setdefault(_shown(route), Histogram(histogram.bounds)).add(histogram)
        return found

    def _of_engine(self) -> Iterator[Metric]:
        ledger, tally = self._ledger, self._ledger.tally
        yield _counted(
            "lastro_operations",
            "Operations by what came of them: done, replayed, or the code of the refusal.",
            ("operation", "outcome"),
            {(verb_of(verb), outcome): count for (verb, outcome), count in tally.operations.items()},
        )
        yield _counted(
            "lastro_operation_credits",
            "Credits that operations moved.",
            ("operation",),
            {(verb_of(verb),): credits_ for verb, credits_ in tally.credits.items()},
        )
        yield _distributed(
            "lastro_call_duration_seconds",
            "From sending a call of the script to its answer.",
            None,
            {"": tally.calls},
        )
        yield _distributed(
            "lastro_call_operations",
            "Operations that travelled in one call of the script.",
            None,
            {"": tally.sizes},
        )
        yield CounterMetricFamily(
            "lastro_calls_unanswered", "Calls of the script of which no answer came.", value=tally.unanswered
        )
        yield GaugeMetricFamily(
            "lastro_queue_operations", "Operations that wait for the call in flight.", value=ledger.waiting
        )
        yield GaugeMetricFamily(
            "lastro_queue_max_operations",
            "How many may wait before requests are refused.",
            value=self._queue_max,
        )
        yield GaugeMetricFamily(
            "lastro_admitted", "Whether this process may serve its Redis.", value=ledger.terms is not None
        )


def _counted(
    name: str, help_: str, labels: Iterable[str], counts: Mapping[Labels, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_, labels=list(labels))
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _distributed(
    name: str, help_: str, label: str | None, histograms: Mapping[str, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_, labels=[label] if label else [])
    for value, histogram in sorted(histograms.items()):
        bounds = [*map(str, map(float, histogram.bounds)), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric([value] if label else [], buckets, histogram.sum)
    return family


def _shown(route: str) -> str:
    """The template of a path without the types of its places."""
    return route.replace(":str}", "}")
