"""`python -m tests.bench [--rows 1,2,...] [--seconds S] [--rounds N] [--growth-max N] [--write]`.

Ends with 0 when everything that was measured reached what it must, else with 1.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app import collector
from tests.bench import machine, table
from tests.bench.bed import Bed
from tests.bench.figures import Line
from tests.bench.load import WRK
from tests.bench.rows import (
    batch,
    clients,
    cluster,
    drain,
    durable,
    engine,
    fsync,
    growth,
    http,
    lag,
    locking,
    monitoring,
    processes,
)
from tests.bench.sizes import Sizes, Told

GROUPS = {
    (1, 5): (engine, "engine and script"),
    (2,): (http, "HTTP and its floor"),
    (3,): (locking, "against locked rows"),
    (4,): (clients, "1 to 200 clients"),
    (6,): (batch, "many in one request"),
    (7,): (drain, "journal, drained"),
    (8,): (lag, "journal, lag"),
    (9,): (fsync, "fsync always"),
    (10,): (growth, "growth"),
    (11,): (monitoring, "monitoring"),
    (12,): (durable, "restore, reconcile"),
    (13,): (cluster, "clusters"),
    (14,): (processes, "API processes"),
}
ROWS = sorted(row for rows in GROUPS for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write where it is asked for."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.write and asked.rows != frozenset(ROWS):
        parser.error("the document is written from all rows of one run: leave --rows out")
    collector.spare()  # as the API and the worker do
    sizes = Sizes(asked.rounds, asked.seconds, asked.growth_max)
    console = Console()
    if WRK is None:
        console.print("wrk is not installed (apt install wrk): our own, slower generator loads HTTP")
    lines, described = measure(console, sizes, asked.rows)
    table.show(console, lines, described)
    if asked.write:
        table.write(lines, described, sizes)
    return 0 if all(line.reached is not False for line in lines) else 1


def measure(console: Console, sizes: Sizes, rows: frozenset[int]) -> tuple[list[Line], dict[str, str]]:
    """The lines of the rows asked for, and the machine."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    lines: list[Line] = []
    paces_ms = [machine.pace_ms()]
    with Progress(*columns, console=console) as progress:
        for its_rows, (group, name) in GROUPS.items():
            if not rows & set(its_rows):
                continue
            begun = time.monotonic()
            number = progress.add_task(name, what="")
            with Bed() as bed:
                lines += group.measure(bed, sizes, Told(progress, number))
            paces_ms.append(machine.pace_ms())
            progress.update(number, what=f"{time.monotonic() - begun:.0f} s")
            progress.stop_task(number)
    with Bed() as bed:
        return lines, machine.described(bed, paces_ms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="How fast it is, on this machine."
    )
    parser.add_argument("--rows", type=_rows, default=frozenset(ROWS), help="for example 1,2; all by default")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long each thing is measured, each time"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured, in turns")
    parser.add_argument(
        "--growth-max",
        type=_accounts,
        default=100_000,
        help="the accounts of the largest ledger of row 10; a million take about an hour",
    )
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    return parser


def _rows(text: str) -> frozenset[int]:
    rows = frozenset(map(int, text.split(",")))
    if not rows <= set(ROWS):
        raise argparse.ArgumentTypeError(f"rows that can be measured: {', '.join(map(str, ROWS))}")
    return rows


def _accounts(text: str) -> int:
    accounts = int(text)
    if accounts <= growth.SIZES[0]:
        raise argparse.ArgumentTypeError(f"more than {growth.SIZES[0]:,}, which they are held against")
    return accounts


if __name__ == "__main__":
    sys.exit(main())
