"""Row 9: what `appendfsync always` costs, against a Valkey that keeps nothing."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import uvloop

from app.ledger.ledger import Ledger
from tests.bench.bed import Bed
from tests.bench.engine import IN_FLIGHT, Step, deducts, load, pairs
from tests.bench.figures import Line, Samples
from tests.bench.rows.http import Hits, mismatches
from tests.bench.sizes import Sizes, Told, in_turns

MUST = 0.60
SIDES = ("always", "none")


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    always, none = bed.house("always"), bed.house("none")
    hits = {
        side: Hits(bed, house, bed.api(house), IN_FLIGHT)
        for side, house in (("always", always), ("none", none))
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        ledgers = {
            "always": runner.run(stack.enter_async_context(always.ledger())),
            "none": runner.run(stack.enter_async_context(none.ledger())),
        }
        counted = dict.fromkeys(SIDES, 0)

        def engine(side: str, kind: Callable[[Ledger], Step], seconds: float) -> float:
            came_to = runner.run(load(kind(ledgers[side]), seconds))
            counted[side] += came_to.answered if kind is deducts else 0
            return came_to.rate

        things: dict[str, Callable[[float], float]] = {}
        for name, kind in (("deducts", deducts), ("pairs", pairs)):
            things |= {f"engine, {name}, {side}": partial(engine, side, kind) for side in SIDES}
        things |= {f"HTTP, {side}": hits[side] for side in SIDES}
        found = in_turns(things, sizes, told)
        runner.run(stack.aclose())
    told.say("counting again")
    wrong = sum(
        mismatches(house, hits[side], counted=counted[side])
        for side, house in (("always", always), ("none", none))
    )
    errors = sum(each.errors for each in hits.values())
    return [
        _share(
            "9a", f"engine, single deducts, {IN_FLIGHT} in flight", "engine, deducts", found, wrong, errors
        ),
        _share(
            "9b",
            f"engine, reserve + confirm pairs, {IN_FLIGHT} in flight",
            "engine, pairs",
            found,
            wrong,
            errors,
        ),
        _share("9c", f"one deduct per HTTP request, {IN_FLIGHT} connections", "HTTP", found, wrong, errors),
    ]


def _share(row: str, what: str, name: str, found: dict[str, Samples], wrong: int, errors: int) -> Line:
    always, none = found[f"{name}, always"], found[f"{name}, none"]
    share = always.over(none)
    return Line(
        row,
        f"appendfsync always against no AOF: {what}",
        share.percent,
        f"≥ {MUST:.0%}",
        share.median >= MUST and not wrong and not errors,
        f"{always}/s against {none}/s; {wrong} mismatches, {errors} errors",
    )
