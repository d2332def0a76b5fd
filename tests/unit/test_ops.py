"""What `ops/` and the document ask Prometheus for is what is exported, by name and by label."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from litestar.routes import HTTPRoute
from prometheus_client.metrics_core import Metric

from app.alerts import Alert
from app.health import CHECKS, Check, HealthReport
from app.http.wide import Watch
from app.journaling import ShardJournaled, Stream
from app.ledger.backing import NotAdmitted
from app.ledger.errors import leaves
from app.ledger.ledger import Ledger
from app.ledger.operations import Write
from app.main import create_app
from app.metrics.process import Process
from app.metrics.whole import Whole
from app.opened import Open
from app.queues import AtWork, Queue
from app.reconciliations import Difference, Reconciliation
from app.settings import Settings

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text(encoding="utf-8"))
SCRAPE = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text(encoding="utf-8"))
BOARD = json.loads((ROOT / "ops/grafana/lastro.json").read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
NOW = datetime(2026, 1, 2, tzinfo=UTC)

OF_PROMETHEUS = {"up": {"job", "instance"}}
ALWAYS = {"job", "instance"}
UNITS = ("_seconds", "_entries", "_operations", "_credits", "_accounts", "_rows", "_info")
WITHOUT_UNIT = {
    "lastro_admitted", "lastro_alerts_firing", "lastro_cron_up", "lastro_event_deliveries",
    "lastro_health_status", "lastro_health_value", "lastro_http_requests_in_progress", "lastro_jobs",
    "lastro_open_holds", "lastro_reconciliation_status", "lastro_shard_fenced", "lastro_store_up",
    "lastro_workers",
}  # fmt: skip


class Told:
    """Answers each question of the whole with something. `seen`: by those who look."""

    def __init__(self, seen: Open | AtWork | None = None) -> None:
        self._seen = seen

    async def shards(self) -> list[ShardJournaled]:
        return [ShardJournaled(0, 1, NOW, 1, NOW, None, Stream(2, 1, 3.0))]

    async def look(self) -> Any:
        return self._seen

    async def runs(self, limit: int) -> list[Reconciliation]:
        return [Reconciliation("1", NOW, None, "drift", 1, [Difference("alice", "held", 1, 2)])]

    async def report(self) -> HealthReport:
        checks = [Check(name=name, status="warning", value=1, message="So.") for name in CHECKS]
        return HealthReport(status="warning", checked_at=NOW, lag_seconds=0.0, checks=checks)

    async def alerts(self, *_: Any, **__: Any) -> list[Alert]:
        return [
            Alert(
                id="1", rule="drift", subject="", level="critical", state="firing", since=NOW,
                resolved_at=None, value=1, threshold=1, message="So.",
            )
        ]  # fmt: skip


def _metrics() -> list[Metric]:
    """Everything that can be exported, with one sample at least."""
    told: Any = Told()
    at_work = AtWork([Queue("tasks", 1, 1, 1)], [], [], cron=True)
    whole = Whole(
        journaling=told,
        queues=Told(at_work),  # type: ignore[arg-type]
        reconciliations=told,
        opened=Told(Open(1, {"waiting": 1}, {"dead": 1})),
        health=told,
        alerts=told,
    )

    class Nobody:
        async def admit(self) -> None:
            raise NotAdmitted("nobody")

    redis: Any = None
    nobody: Any = Nobody()
    ledger, watch = Ledger(redis, nobody), Watch("off")
    verb: type[Write] = Write.__subclasses__()[0]
    ledger.tally.operations[verb, "done"] = ledger.tally.credits[verb] = 1
    scope = {"method": "GET", "path_template": "/a/{b:str}", "code": "forbidden", "delivery": ("bfl", "late")}
    watch.ended(scope, 403, 0.1)
    return [*Process(watch, ledger, 100).metrics(), *asyncio.run(whole.metrics())]


@cache
def exported() -> dict[str, set[str]]:
    """Names of samples, with their labels."""
    found: dict[str, set[str]] = {}
    for metric in _metrics():
        assert metric.samples, f"{metric.name} has no sample here"
        for sample in metric.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression, and whose it is."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:.])[A-Za-z_:][\w:]*(?![\w:]*\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"}


def read(expression: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics that PromQL names, each with the labels that it is selected by; and labels it groups by."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    named: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(bare):
        named.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
    groups = {label.strip() for labels in _GROUPING.findall(bare) for label in labels.split(",")}
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare))
    for name in _NAME.findall(bare):
        if name not in _WORDS:
            named.setdefault(name, set())
    return named, groups - {""}


def test_promql_is_read_as_it_is_meant() -> None:
    assert ({"a_total": {"x", "y"}, "b": set()}, {"x", "le"}) == read(
        'sum by (x, le) (rate(a_total{x="{b}", y=~"c|d"}[5m])) > 0.5 * max(b) or vector(0)'
    )


@pytest.mark.parametrize(("whose", "expression"), list(expressions()))
def test_what_is_asked_for_is_exported_with_those_labels(whose: str, expression: str) -> None:
    there = exported() | OF_PROMETHEUS
    named, groups = read(expression)
    assert named, f"{whose} asks for nothing"
    for name, labels in named.items():
        assert name in there, f"{whose} asks for {name}, which nobody exports"
        assert labels <= there[name] | ALWAYS, f"{whose} asks {name} for {labels - there[name]}"
    assert groups <= set().union(*(there[name] for name in named)) | ALWAYS, f"{whose} groups by {groups}"
    assert expression.count("(") == expression.count(")")


def test_values_that_are_asked_for_can_be_there() -> None:
    settings = Settings(redis_url="redis://one", database_url="postgresql://two")
    paths = {
        route.path.replace(":str}", "}")
        for route in create_app(settings).routes
        if isinstance(route, HTTPRoute)
    }
    outcomes = {"done", "replayed", *leaves()}
    statuses = {"running", "equal", "drift", "unknown", "rejected"}
    may = {
        "route": paths,
        "outcome": outcomes,
        "code": set(leaves()),
        "state": {"waiting", "running", "failed"},
    }
    may |= {"store": {"redis", "postgres", "queues"}, "job": {"lastro"}}
    for whose, expression in expressions():
        for label, how, values in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', expression):
            if label == "status":
                assert values in statuses or re.fullmatch(r"[1-5]\.\.", values), whose
                continue
            for each in values.split("|") if "~" in how else [values]:
                assert each in may[label], f"{whose} asks for {label}={each}"


def test_every_rule_says_how_bad_it_is_and_names_only_labels_that_it_has() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        named, groups = read(rule["expr"])
        aggregated = re.match(r"(sum|max|time|histogram_quantile)\b", rule["expr"].strip())
        has = (
            groups
            if aggregated
            else set().union(*((exported() | OF_PROMETHEUS)[name] for name in named)) | ALWAYS
        )
        text = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= has, rule["alert"]


def test_a_rule_that_names_a_runbook_names_one_that_is_there() -> None:
    text = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
    there = {
        f"docs/runbooks.md#{title.lower().replace(' ', '-')}"
        for title in re.findall(r"^## (.+)$", text, re.MULTILINE)
    }
    named = {rule["annotations"]["runbook"] for rule in ALERTS if "runbook" in rule["annotations"]}
    assert named
    assert named <= there


def test_the_scrape_is_of_what_there_is_and_reads_the_rules_beside_it() -> None:
    (job,) = SCRAPE["scrape_configs"]
    assert ("lastro", "/metrics", "Bearer") == (
        job["job_name"],
        job["metrics_path"],
        job["authorization"]["type"],
    )
    assert all((ROOT / "ops/prometheus" / name).exists() for name in SCRAPE["rule_files"])


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in _metrics():
        if not metric.name.startswith("lastro_"):
            continue
        name = metric.name + ("_info" if metric.type == "info" else "")
        assert metric.documentation.endswith("."), name
        if metric.type == "counter":
            assert not name.endswith("_total"), "the client adds it"
        elif metric.type in ("gauge", "histogram", "info"):
            assert name.endswith(UNITS) or name in WITHOUT_UNIT, f"{name} names no unit"


def test_the_document_has_every_metric_and_no_other() -> None:
    ours = {
        metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
        for metric in _metrics()
        if metric.name.startswith("lastro_")
    }
    told = set(re.findall(r"^\| `(lastro_\w+)`", DOCUMENT, re.MULTILINE))
    assert ours == told


def test_the_document_names_the_labels_of_each() -> None:
    labels = {
        name: set(re.findall(r"`(\w+)`", row))
        for name, row in re.findall(r"^\| `(lastro_\w+)` \| ([^|]*) \|", DOCUMENT, re.MULTILINE)
    }
    for name, said in labels.items():
        there = exported().get(name) or exported().get(f"{name}_bucket", set())
        assert said == there - {"le"}, name


def test_every_event_of_the_log_that_the_document_names_is_written_somewhere() -> None:
    written = "".join(
        path.read_text(encoding="utf-8")
        for top in ("app", "persistence")
        for path in (ROOT / top).rglob("*.py")
    )
    events = set(re.findall(r"^\| `((?:confirm|cleanup)\.\w+|request)`", DOCUMENT, re.MULTILINE))
    assert {
        "request",
        *(f"confirm.{word}" for word in ("started", "found", "not_found", "refused")),
    } <= events
    for event in events:
        assert f'"{event}"' in written, event
