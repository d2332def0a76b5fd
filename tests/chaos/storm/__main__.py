"""`python -m tests.chaos.storm`: raise a storm, print what it did, exit 1 when a promise was broken."""

import argparse
import asyncio
import secrets
import sys

from tests.chaos.storm.faults import ALL, named
from tests.chaos.storm.sabotage import BROKEN
from tests.chaos.storm.storm import Plan, storm
from tests.folders import reachable_folder


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=None, help="of a storm that is to be seen again")
    parser.add_argument("--per-round", type=int, default=8, help="faults between two checks (8)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long something hangs at most (4)")
    parser.add_argument("--only", action="append", choices=[fault.name for fault in ALL], help="this kind")
    parser.add_argument("--broken", default="", choices=sorted(BROKEN), help="break a rule on purpose")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    plan = Plan(
        faults=given.faults,
        seed=seed,
        per_round=given.per_round,
        seconds_max=given.seconds,
        kinds=named(*given.only) if given.only else ALL,
        broken=given.broken,
    )
    with reachable_folder() as folder:
        report = asyncio.run(storm(plan, folder, lambda line: print(line, flush=True)))
    print(f"\n{report.table()}", flush=True)
    if report.good:
        return 0
    print(f"\n{report.account()}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
