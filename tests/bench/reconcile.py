"""How long a reconciliation takes, and how long it holds Redis up: `python -m tests.bench.reconcile`.

By default 100,000 accounts, every tenth with an open reservation; nothing else moves meanwhile.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from redis import Redis

from app.ledger.connection import connect as connect_redis
from persistence.birth import give_birth
from persistence.migrate import migrate
from persistence.reconcile.run import Run, begin
from persistence.restore import restore
from persistence.session import connect
from tests.bench.bed import SHARDS, Bed, run
from tests.bench.filled import Size, fill
from tests.bench.restore import Stopwatch


async def reconcile(database_url: str, redis_url: str, *, full: bool) -> Run:
    """One run to its end."""
    connection = await connect(database_url)
    try:
        async with connect_redis(redis_url) as redis:
            made = await Run(connection, redis, await begin(connection, "bench", full=full)).load()
            while not made.is_at_end:
                await made.step()
            return made
    finally:
        await connection.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the data, bring it into Redis, compare twice, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reconcile", description=__doc__)
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
        run(restore(database_url, valkey.url, salvage=Path(bed.folder) / "salvaged", watch=Stopwatch()))
        for name, full in (("as the job does it", False), ("with the sums of all entries", True)):
            with Redis.from_url(valkey.url) as client:
                client.config_resetstat()
                begun = time.perf_counter()
                made = run(reconcile(database_url, valkey.url, full=full))
                seconds = time.perf_counter() - begun
                calls = client.info("commandstats")["cmdstat_evalsha"]
            assert (made.status, made.accounts) == ("equal", size.accounts), made.position
            held_up_ms = calls["usec"] / calls["calls"] / 1000
            print(
                f"{size.accounts:,} accounts and {size.holds:,} open reservations compared {name}: "
                f"{seconds:.1f} s, {size.accounts / seconds:,.0f} accounts/s, "
                f"{calls['calls']:,} looks at Redis of {held_up_ms:.2f} ms"
            )


if __name__ == "__main__":
    main()
