"""`python -m tests.bench.capacity [--seconds S] [--rounds N] [--write]`: what each tier costs, and how much
of each a rate needs.

CPU time of an operation is measured in each tier (`tiers`), and everything else is arithmetic.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import collector
from tests.bench import machine
from tests.bench.bed import Bed
from tests.bench.sizes import Told
from tests.bench.tiers import TIERS, Cost, measure

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "capacity.md"
PAGE = Path(__file__).with_name("capacity.md")
"""What the program does not know: the document is this, with the figures in their places."""

RATES = (1_000, 10_000, 100_000, 1_000_000)
BUSY = 0.7
"""How busy a core is meant to be: above it, what waits grows faster than what is done."""

ONE_THREAD = ("api", "redis", "worker")
"""Tiers of processes that use one core each, so that more of them are needed rather than a larger one."""

_DAY_SECONDS = 86_400
_GB = 1e9


class Need(NamedTuple):
    """Of a rate: processes (of `ONE_THREAD`) or cores by tier, rows and bytes of a day."""

    tiers: Mapping[str, int]
    rows_a_day: float
    gb_a_day: float


def need(cpu_us: Mapping[str, float], bytes_kept: float, rate: float) -> Need:
    """What a rate needs, where an operation costs so much."""
    tiers = {tier: ceil(rate * cpu_us[tier] / 1e6 / BUSY) for tier in TIERS}
    return Need(tiers, rate * _DAY_SECONDS, rate * _DAY_SECONDS * bytes_kept / _GB)


def tables(costs: Sequence[Cost]) -> dict[str, str]:
    """What stands in the places of the document, by their names."""
    rows = [
        "| operation | API | Redis | worker | PostgreSQL | kept in PostgreSQL | of one API process here |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        of = " | ".join(f"{cost.cpu_us[tier]} us" for tier in TIERS)
        here = f"{cost.rate}/s, p99 {cost.p99_ms} ms"
        rows.append(f"| {cost.load.name} | {of} | {cost.bytes_kept:,.0f} bytes | {here} |")
    return {"costs": "\n".join(rows), "needs": "\n\n".join(_needs(cost) for cost in costs)}


def _needs(cost: Cost) -> str:
    cpu_us = {tier: cost.cpu_us[tier].median for tier in TIERS}
    rows = [
        f"**{cost.load.name[0].upper()}{cost.load.name[1:]}**",
        "",
        "| a second | API processes | primaries | workers | PostgreSQL cores | rows a day | disk a day |",
        "|---|---|---|---|---|---|---|",
    ]
    for rate in RATES:
        wanted = need(cpu_us, cost.bytes_kept, rate)
        of = " | ".join(f"{wanted.tiers[tier]:,}" for tier in TIERS)
        rows.append(
            f"| {rate:,} | {of} | {wanted.rows_a_day / 1e6:,.0f} million | {wanted.gb_a_day:,.0f} GB |"
        )
    return "\n".join(rows)


def document(costs: Sequence[Cost], described: Mapping[str, str], rounds: int, seconds: float) -> str:
    """The page: prose, and the figures of this run in it."""
    on = "\n".join(f"- {name}: {value}" for name, value in described.items())
    places = tables(costs) | {
        "machine": on,
        "busy": f"{BUSY:.0%}",
        "rounds": str(rounds),
        "seconds": f"{seconds:g}",
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, value in places.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--write", action="store_true", help="write docs/capacity.md anew")
    asked = parser.parse_args(arguments)
    collector.spare()
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Bed() as bed, Progress(*columns, console=console) as progress:
        told = Told(progress, progress.add_task("tiers", total=None, what=""))
        pace_ms = machine.pace_ms()
        costs = measure(bed, asked.rounds, asked.seconds, told)
        described = machine.described(bed, [pace_ms, machine.pace_ms()])
    described.pop("load")
    for table in tables(costs).values():
        console.print(Markdown(table))
    if asked.write:
        DOCUMENT.write_text(document(costs, described, asked.rounds, asked.seconds), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
