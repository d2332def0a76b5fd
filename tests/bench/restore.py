"""How long a lost Redis takes to be made again: `python -m tests.bench.restore`.

By default 100,000 accounts, every tenth with an open reservation, the append-only file synced every second.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from app.ledger.admission import Standing
from persistence.birth import give_birth
from persistence.migrate import migrate
from persistence.restore import restore
from tests.bench.bed import SHARDS, Bed, run
from tests.bench.filled import Size, fill


class Stopwatch:
    """Takes the time of each step of a restore."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = 0.0
        self._name = ""

    async def claimed(self, standings: list[Standing]) -> bool:
        return len(standings) == SHARDS

    def step(self, name: str, total: int = 0) -> None:
        self.end()
        self._name, self._begun = name, time.perf_counter()

    def advance(self, by: int) -> None:
        """The whole is what counts here."""

    def end(self) -> None:
        """The last step is done."""
        if self._name:
            self.seconds[self._name] = time.perf_counter() - self._begun


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data, lose Redis, restore, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restore", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--holds-every", type=int, default=10)
    asked = parser.parse_args(arguments)
    size = Size(asked.accounts, asked.holds_every)
    logging.getLogger("persistence").addHandler(logging.NullHandler())
    with Bed() as bed:
        valkey, database_url = bed.valkey("everysec"), bed.database(bed.postgres)
        run(migrate(database_url))
        run(give_birth(database_url, valkey.url, SHARDS))
        run(fill(database_url, size))
        with Redis.from_url(valkey.url) as client:
            client.flushall()
        watch = Stopwatch()
        found = run(restore(database_url, valkey.url, salvage=Path(bed.folder) / "salvaged", watch=watch))
        watch.end()
        with Redis.from_url(valkey.url) as client:
            memory = client.info("memory")["used_memory"]
    assert found is not None
    assert (found.drift, found.fences, found.loaded) == ([], {}, size.accounts + size.holds)
    total = sum(watch.seconds.values())
    print(f"{size.accounts:,} accounts and {size.holds:,} open reservations restored in {total:.1f} s")
    for name in ("load", "compare"):
        print(f"  {name:<8}{watch.seconds[name]:6.1f} s  {found.loaded / watch.seconds[name]:,.0f}/s")
    print(f"  the rest{total - watch.seconds['load'] - watch.seconds['compare']:6.1f} s")
    print(f"  {memory / 2**20:,.0f} MiB in Redis afterwards")


if __name__ == "__main__":
    main()
