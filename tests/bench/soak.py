"""`python -m tests.bench.soak [--minutes M] [--write]`: whether anything grows while a ledger lives.

A whole ledger as processes of their own, and the shop of `lastro demo` that orders, confirms, cancels,
repeats and hangs up all the time. What processes hold on to is looked at now and then; in the end the last
third is held against the first (`steady`), and every credit of the shop against the journal. Ends with 0 when
all of it holds, else with 1.
"""

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import NamedTuple

import asyncpg
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.demo.api import Api
from app.demo.audit import Audit
from app.demo.shop import JOBS_PER_SECOND, Shop
from app.demo.tally import Tally
from app.demo.traffic import Traffic
from app.embedded import Process
from app.ledger.connection import connect
from app.settings import Settings
from tests.bench import machine, table
from tests.bench.bed import Bed, House, run
from tests.bench.figures import Line, percentile
from tests.bench.gauges import Gauges
from tests.bench.steady import LOOKS_MIN, Verdict, judge

ACCOUNTS = 200
LOOKS = 120
"""At most so many in a run, and not oftener than each second, but as many as it takes to judge."""

_KEEP_SECONDS = 5
"""For which Redis keeps what PostgreSQL has: shorter than usual, so that short runs come to rest, too."""


class Soaked(NamedTuple):
    """`amiss`: promises that were broken, in sentences. `errors`: requests without an answer."""

    verdicts: list[Verdict]
    amiss: list[str]
    errors: int
    answered: int
    transactions: int
    seconds: float

    @property
    def good(self) -> bool:
        return not self.amiss and not self.errors and all(each.holds for each in self.verdicts)


class Lived(House):
    """With streams that are short."""

    @property
    def settings(self) -> Settings:
        return msgspec.structs.replace(super().settings, stream_keep_seconds=_KEEP_SECONDS)


class Heard(Traffic):
    """Keeps how long each answer took, until that is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._times: list[float] = []

    def answered(self, seconds: float, now: float) -> None:
        super().answered(seconds, now)
        self._times.append(seconds)

    def taken(self) -> list[float]:
        """Those since the last time."""
        times, self._times = self._times, []
        return times


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print, and write where it is asked for."""
    asked = _parser().parse_args(arguments)
    console = Console()
    paces_ms = [machine.pace_ms()]
    with Bed() as bed:
        columns = (TextColumn("soak"), BarColumn(20), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console) as progress:
            found = soak(bed, 60 * asked.minutes, progress)
        paces_ms.append(machine.pace_ms())
        described = machine.described(bed, paces_ms) | {
            "load": f"the shop of `lastro demo`, {ACCOUNTS} accounts, about {JOBS_PER_SECOND} jobs a second"
        }
    line = line_of(found, asked.minutes)
    table.show(console, [line], described)
    if asked.write:
        table.write_soak(line, described)
    return 0 if found.good else 1


def soak(bed: Bed, seconds: float, progress: Progress) -> Soaked:
    """Set it up, load it for so long, and judge."""
    house = Lived(*bed.house())
    api = bed.api(house)
    processes: dict[str, Process] = {
        "api": api, "worker": bed.program("worker", house), "cron": bed.program("cron", house),
        "valkey": house.valkey,
    }  # fmt: skip
    found = run(_soak(bed, house, api.port, processes, seconds, progress))
    ended = [f"{name} {process.ending}" for name, process in processes.items() if not process.alive]
    return found._replace(amiss=[*found.amiss, *ended])


async def _soak(
    bed: Bed, house: House, port: int, processes: dict[str, Process], seconds: float, progress: Progress
) -> Soaked:
    traffic, tally, rng = Heard(), Tally(), Random(5)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(house.valkey.url))
        connection = await asyncpg.connect(house.database_url, ssl=False)
        stack.push_async_callback(connection.close)
        gauges = Gauges(processes, {"api": port}, bed.postgres, redis, connection)
        client = await stack.enter_async_context(Api(f"http://127.0.0.1:{port}", house.token, traffic, rng))
        name = f"soak-{secrets.token_hex(3)}"
        shop = Shop(name, client, tally, rng, accounts=ACCOUNTS, seconds=seconds)
        await shop.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(gauges, traffic, shop.closing, seconds, progress))
            await shop.trade()
        books = await Audit(client).check(shop.accounts)
    return Soaked(
        judge(gauges.series, gauges.operations),
        [*tally.findings, *books.differences],
        traffic.unanswered.total(),
        gauges.operations[-1],
        books.transactions,
        seconds,
    )


async def _watch(
    gauges: Gauges, traffic: Heard, closing: asyncio.Event, seconds: float, progress: Progress
) -> None:
    """Look now and then, and close the shop when the time has come."""
    looks = min(LOOKS, max(LOOKS_MIN, int(seconds)))
    every = seconds / looks
    line = progress.add_task("", total=seconds)
    begun = time.monotonic()
    traffic.taken()
    for look in range(1, looks + 1):
        await asyncio.sleep(max(0.0, begun + look * every - time.monotonic()))
        times = traffic.taken()
        await gauges.look(traffic.latencies.count, times)
        p99_ms = 1000 * percentile(sorted(times), 0.99)
        told = f"{len(times) / every:,.0f} answers/s, p99 {p99_ms:.1f} ms"
        progress.update(line, completed=time.monotonic() - begun, description=told)
    progress.update(line, description="closed; every account is checked")
    closing.set()


def line_of(found: Soaked, minutes: float) -> Line:
    """What it came to."""
    grown = [each.name for each in found.verdicts if not each.holds]
    amiss = f"; amiss: {' '.join(found.amiss)}" if found.amiss else ""
    return Line(
        "soak",
        f"{minutes:g} minutes of mixed load on a whole ledger: what its last third has more than its first",
        f"grown: {', '.join(grown)}" if grown else f"all {len(found.verdicts)} within their bounds",
        "nothing beyond its bound, 0 mismatches, 0 errors",
        found.good,
        f"{'; '.join(map(str, found.verdicts))}. {found.answered / found.seconds:,.0f} answers/s; "
        f"{found.transactions:,} transactions counted again, {len(found.amiss)} mismatches, "
        f"{found.errors} errors{amiss}",
        f"python -m tests.bench.soak --minutes {minutes:g} --write",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak", description="Whether anything grows while a ledger lives."
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="3, or 60 for the long form")
    parser.add_argument("--write", action="store_true", help="write it into docs/benchmarks.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
