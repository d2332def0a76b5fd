"""Beside row 5: the engine on a cluster of one and of three primaries, and on a single server.

Where all of them share a few cores, more primaries cannot be faster. What tells how it goes on where each has
a core of its own is the CPU time that an operation takes on each node, which is measured beside the rate.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from redis import Redis, RedisCluster

from app.embedded import Valkey
from app.ledger.ledger import Ledger
from tests.bench.balances import mismatches
from tests.bench.bed import ACCOUNTS, SHARDS, Bed, House, Stored, run
from tests.bench.draining import drained
from tests.bench.engine import IN_FLIGHT, deducts, load
from tests.bench.figures import Line, Samples
from tests.bench.sizes import Sizes, Told, in_turns
from tests.cluster.servers import Cluster

PRIMARIES = (1, 3)
SINGLE = "a single server"
_TICK = os.sysconf("SC_CLK_TCK")


class Loaded:
    """A house under the engine. `cpu`: seconds of each process, by what it is, while it was loaded."""

    def __init__(self, runner: asyncio.Runner, house: House) -> None:
        self._runner = runner
        self._house = house
        self._inside = house.ledger()
        self._ledger: Ledger = runner.run(self._inside.__aenter__())
        self.answered = 0
        self.cpu: dict[str, float] = {}

    def __call__(self, seconds: float) -> float:
        before = self._cpu()
        came_to = self._runner.run(load(deducts(self._ledger), seconds))
        for name, at in self._cpu().items():
            self.cpu[name] = self.cpu.get(name, 0.0) + at - before[name]
        self.answered += came_to.answered
        return came_to.rate

    def each_us(self) -> dict[str, float]:
        """Microseconds of CPU time for an operation, of all that was measured."""
        return {name: 1e6 * seconds / self.answered for name, seconds in self.cpu.items()}

    def close(self) -> None:
        self._runner.run(self._inside.__aexit__(None, None, None))

    def mismatches(self) -> int:
        """Journals all of it, and counts. Nobody was granted anything but at the beginning."""
        expected = self.answered + GRANTS
        run(drained(self._house.database_url, self._house.valkey.url, expected))
        with _client(self._house.valkey) as redis:
            return mismatches(redis, self._house.database_url, expected)

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in _processes(self._house.valkey).items()}


GRANTS = 2 * len(ACCOUNTS)
"""Each has a plan and extras."""


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, in steps of a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _processes(stored: Stored) -> dict[str, int]:
    if isinstance(stored, Cluster):
        primaries = stored.primaries()
        replicas = [each for each in stored.servers if each not in primaries]
        servers = {f"primary {number}": each.pid for number, each in enumerate(primaries, 1)}
        servers |= {f"replica {number}": each.pid for number, each in enumerate(replicas, 1)}
    else:
        assert isinstance(stored, Valkey)
        servers = {"server": stored.pid}
    return {"engine": os.getpid(), **servers}


def _client(stored: Stored) -> "Redis | RedisCluster":
    if isinstance(stored, Cluster):
        where = urlsplit(stored.url)
        return RedisCluster(host=str(where.hostname), port=int(where.port or 0), password=stored.password)
    return Redis.from_url(stored.url)


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    houses = {
        SINGLE: bed.house(),
        **{_name(primaries): _clustered(bed, primaries) for primaries in PRIMARIES},
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        things = {name: Loaded(runner, house) for name, house in houses.items()}
        found = in_turns(things, sizes, told)
        for each in things.values():
            each.close()
    told.say("counting again")
    wrong = sum(each.mismatches() for each in things.values())
    return [_line(primaries, found, things, wrong) for primaries in PRIMARIES]


def _clustered(bed: Bed, primaries: int) -> House:
    """As `bed.house` has it on one server: the AOF is `everysec`, and never rewritten."""
    folder = bed.folder / f"cluster-{primaries}"
    folder.mkdir()
    settings = ("appendfsync everysec", "auto-aof-rewrite-percentage 0")
    cluster = bed.enter(Cluster(folder, primaries, settings=settings))
    cluster.spread(SHARDS)
    return bed.stocked(cluster, bed.bear(cluster))


def _name(primaries: int) -> str:
    return f"a cluster of {primaries} {'primary' if primaries == 1 else 'primaries'}"


def _line(primaries: int, found: Mapping[str, Samples], things: Mapping[str, Loaded], wrong: int) -> Line:
    ours, its = found[_name(primaries)], found[SINGLE]
    cpu = ", ".join(f"{name} {us:.0f}" for name, us in things[_name(primaries)].each_us().items())
    alone = ", ".join(f"{name} {us:.0f}" for name, us in things[SINGLE].each_us().items())
    return Line(
        "13",
        f"engine, {IN_FLIGHT} in flight, single deducts, on {_name(primaries)} with a replica each, against "
        f"{SINGLE}",
        ours.over(its).percent,
        reached=False if wrong else None,
        beside=f"{ours}/s against {its}/s, all on the same {len(os.sched_getaffinity(0))} cores, where more "
        f"primaries cannot be faster; µs of CPU time for each operation: {cpu}; of {SINGLE}: {alone}; "
        f"{wrong} mismatches",
    )
