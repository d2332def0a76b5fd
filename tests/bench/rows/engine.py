"""Rows 1 and 5: the engine against the script's own limit, and in absolute numbers."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import uvloop

from app.ledger.ledger import Ledger
from tests.bench.bed import Bed
from tests.bench.engine import IN_FLIGHT, Step, deducts, load, pairs
from tests.bench.figures import Line, Samples, Section
from tests.bench.recount import Recount
from tests.bench.script import Feed
from tests.bench.sizes import Sizes, Told, in_turns
from tests.bench.spent import Spent, Watched

SHARE = 0.70
DEDUCTS, PAIRS = 28_000, 15_000
PEER = "TigerBeetle's Python client, one transfer a call, 256 in flight, measured on such a machine: {}/s"


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    latencies: dict[str, list[float]] = {"deduct": [], "pair": []}
    counted = {"deduct": 0, "pair": 0}
    client_seconds = {"deduct": 0.0, "pair": 0.0}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        inside = house.ledger()
        ledger = runner.run(inside.__aenter__())
        assert ledger.terms is not None
        feed = Feed(house.valkey.url, ledger.terms)
        scripts = {
            "deduct": Watched(house.valkey.url, feed.deducts, lambda: feed.deducted),
            "pair": Watched(house.valkey.url, feed.pairs, lambda: feed.paired),
        }

        def engine(name: str, kind: Callable[[Ledger], Step], seconds: float) -> float:
            begun = time.process_time()
            came_to = runner.run(load(kind(ledger), seconds))
            client_seconds[name] += time.process_time() - begun
            latencies[name].append(came_to.p99_ms)
            counted[name] += came_to.answered
            return came_to.rate

        found = in_turns(
            {
                "engine, deducts": partial(engine, "deduct", deducts),
                "script, deducts": scripts["deduct"],
                "engine, pairs": partial(engine, "pair", pairs),
                "script, pairs": scripts["pair"],
            },
            sizes,
            told,
        )
        feed.close()
        runner.run(inside.__aexit__(None, None, None))
    told.say("counting again")
    wrong = _recount(house.valkey.url, counted["deduct"] + feed.deducted, counted["pair"] + feed.paired)
    section = _where(
        {what: each.spent() for what, each in scripts.items()},
        {what: 1e6 * seconds / counted[what] for what, seconds in client_seconds.items()},
    )
    return [
        _share("1", "deduct", found, wrong),
        _share("1", "pair", found, wrong),
        _rate("5", "deduct", found["engine, deducts"], DEDUCTS, "9,300", latencies["deduct"], wrong),
        _rate("5", "pair", found["engine, pairs"], PAIRS, "4,900", latencies["pair"], wrong, section),
    ]


def _recount(url: str, deducted: int, paired: int) -> int:
    """Accounts that do not hold what their entries say, and entries that are missing or too many."""
    recount = Recount(url)
    recount.read_on()
    wrong = recount.mismatches()
    wrong += abs(recount.kinds["deducted"] - deducted)
    wrong += abs(recount.kinds["confirmed"] - paired) + abs(recount.kinds["cancelled"])
    recount.close()
    return wrong


def _share(row: str, what: str, found: dict[str, Samples], wrong: int) -> Line:
    engine, script = found[f"engine, {what}s"], found[f"script, {what}s"]
    share = engine.over(script)
    return Line(
        row + {"deduct": "a", "pair": "b"}[what],
        f"engine, {IN_FLIGHT} coroutines, {NAMES[what]}, against the script's own limit",
        share.percent,
        f"≥ {SHARE:.0%}",
        share.median >= SHARE and not wrong,
        f"engine {engine}/s, script fed by pipelined calls of 64 {script}/s; {wrong} mismatches",
    )


NAMES = {"deduct": "single deducts", "pair": "reserve + confirm pairs"}


def _rate(
    row: str, what: str, rate: Samples, must: int, peer: str, p99s: list[float], wrong: int,
    section: Section | None = None,
) -> Line:  # fmt: skip
    return Line(
        row + {"deduct": "a", "pair": "b"}[what],
        f"engine, {IN_FLIGHT} in flight, {NAMES[what]}",
        f"{rate}/s",
        f"≥ {must:,}/s",
        rate.median >= must and not wrong,
        f"p99 {Samples(p99s)} ms. {PEER.format(peer)}",
        section=section,
    )


_FOREWORD = """\
Microseconds of one operation in calls of 64 over 16 shards: in the script altogether, of them in the commands
that it calls (`INFO commandstats`), and in the process that calls it. A pair of reserve and confirm counts as
one. Redis does one thing at a time, so that the script is the limit of rows 5 and 6, and under HTTP, where a
call carries fewer operations, that of rows 2b and 4 together with the API's own work."""


def _where(spent: Mapping[str, Spent], client_us: Mapping[str, float]) -> Section:
    rows = [
        "| operation | script | of it | the caller's process | at most, one server |",
        "|---|---|---|---|---|",
        *(
            f"| {NAMES[what]} | {each.whole_us:.1f} µs | {each} | {client_us[what]:.1f} µs "
            f"| {1e6 / each.whole_us:,.0f}/s |"
            for what, each in spent.items()
        ),
    ]
    return Section("Where the time goes", "\n".join([_FOREWORD, "", *rows]), {})
