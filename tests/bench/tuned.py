"""PostgreSQL as `docker-compose.yml` sets it: what is recommended is what is measured."""

from pathlib import Path

import yaml

from tests.bench.bed import Bed, alter, run
from tests.bench.draining import drained
from tests.bench.figures import Line, Samples
from tests.bench.growing import Grown
from tests.bench.sizes import Told

ACCOUNTS = 100_000
ENTRIES = 100_000
"""Drained onto ten times as many, from any of these accounts: with their indexes more than an untouched
PostgreSQL keeps in memory.
"""

_COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def settings() -> dict[str, str]:
    """The settings of its command line, by name."""
    command = yaml.safe_load(_COMPOSE.read_text(encoding="utf-8"))["services"]["postgres"]["command"]
    return dict(argument.removeprefix("--").split("=", 1) for argument in command[1:])


def line(bed: Bed, rounds: int, told: Told, accounts: int = ACCOUNTS, entries: int = ENTRIES) -> Line:
    """Rows a second with these settings and with none, in turns."""
    told.expect(2 * rounds)
    told.say(f"making {accounts:,} accounts")
    grown = Grown(bed, accounts)
    grown.restore()
    told.say("filling the streams")
    while grown.entries < grown.size.rows + entries:
        grown.load(1.0)
    its, wrong = settings(), 0
    rates: dict[str, list[float]] = {"tuned": [], "untouched": []}
    for _ in range(rounds):
        for name, given in (("tuned", its), ("untouched", {})):
            alter(bed.postgres, given)
            database_url = bed.database(bed.postgres, like=grown.database_url.rpartition("/")[2])
            seconds = run(drained(database_url, grown.valkey.url, grown.entries))
            rates[name].append((grown.entries - grown.size.rows) / seconds)
            wrong += grown.counted(database_url)
            told.step(f"{name} {rates[name][-1]:,.0f} rows/s")
    tuned, untouched = (Samples(each) for each in rates.values())
    return Line(
        "7",
        f"journal: entries of any of {accounts:,} accounts drained onto {grown.size.rows:,} rows, PostgreSQL "
        "set as docker-compose.yml sets it, against an untouched one",
        tuned.over(untouched).percent,
        reached=False if wrong else None,
        beside=f"{tuned} rows/s against {untouched} rows/s; "
        + ", ".join(f"{name} {value}" for name, value in its.items())
        + f"; {wrong} mismatches",
    )
