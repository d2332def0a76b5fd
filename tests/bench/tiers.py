"""What an operation costs each tier: CPU time, which does not depend on how busy the machine is otherwise,
and bytes that stay.
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import psutil
from redis import Redis

from app.embedded import Process
from app.ledger import keys
from tests.bench.bed import ACCOUNTS, SHARDS, Bed, House, Service, fetch, run, wait_until
from tests.bench.figures import Samples
from tests.bench.generator import generate, post
from tests.bench.load import CLIENTS, deducts
from tests.bench.recount import Recount
from tests.bench.rows import batch
from tests.bench.sizes import WARM_UP_SECONDS, Told

TIERS = ("api", "redis", "worker", "postgres")

BEHIND = 4 * CLIENTS
"""How many jobs are begun before the first of them ends, so that none is asked to end before it has begun."""

_DRAIN_SECONDS = 60.0


class Load(NamedTuple):
    """What is asked over HTTP. `operations`: of one request."""

    name: str
    requests: Callable[[str], Iterator[bytes]]
    operations: int = 1
    clients: int = CLIENTS


class Cost(NamedTuple):
    """Of one operation. `cpu_us`: CPU microseconds by tier; `bytes_kept`: of PostgreSQL's files."""

    load: Load
    cpu_us: Mapping[str, Samples]
    bytes_kept: float
    rate: Samples
    p99_ms: Samples


def _deducts(token: str) -> Iterator[bytes]:
    what = deducts()
    return itertools.cycle([post(what.path, token, body) for body in what.bodies])


def _batches(token: str) -> Iterator[bytes]:
    return itertools.cycle([post("/api/credits/batch", token, body) for body in batch.bodies(keyed=False)])


def _jobs(token: str) -> Iterator[bytes]:
    """A reserve with its provider's task, and some time later the confirm by that task."""
    drawn, name = random.Random(7), f"{time.time_ns():x}"
    for number in itertools.count():
        task = {"taskId": f"{name}-{number}", "provider": "fal"}
        body = {"accountId": drawn.choice(ACCOUNTS), "amount": 2, "modelId": "video-5s", **task}
        yield post("/api/credits/reserve", token, json.dumps(body).encode())
        if number >= BEHIND:
            task = {"taskId": f"{name}-{number - BEHIND}", "provider": "fal"}
            yield post("/api/credits/confirm", token, json.dumps(task).encode())


DEDUCTS = Load("deduct, one a request", _deducts)
BATCHES = Load(
    f"deduct, {batch.OPERATIONS} a request", _batches, operations=batch.OPERATIONS, clients=batch.CLIENTS
)
JOBS = Load("half a job: a reserve with its task, or the confirm by it, one a request", _jobs)
LOADS = (DEDUCTS, BATCHES, JOBS)


def cpu_seconds(process: Process) -> float:
    """What a program and all that it has started have used so far."""
    whole = psutil.Process(process.pid)
    own = whole.cpu_times()
    used = own.user + own.system + own.children_user + own.children_system
    for child in whole.children(recursive=True):
        try:
            its = child.cpu_times()
        except psutil.NoSuchProcess:  # its parent has its time by now
            continue
        used += its.user + its.system + its.children_user + its.children_system
    return float(used)


def measure(bed: Bed, rounds: int, seconds: float, told: Told) -> list[Cost]:
    """Every load in turn, on one ledger with one API process and one worker.

    Raises:
        AssertionError: Something was refused, lost, or is not what its entries add up to.
    """
    told.say("setting up")
    told.expect(len(LOADS) * rounds)
    postgres = bed.own_postgres()
    house = bed.house(postgres=postgres)
    worker = bed.program("worker", house)
    bed.program("cron", house)
    api = bed.api(house)
    programs = dict(zip(TIERS, (api, house.valkey, worker, postgres), strict=True))
    found = [_Found(load) for load in LOADS]
    for round_ in range(rounds + 1):
        for each in found:
            each.measure(house, api, programs, seconds if round_ else WARM_UP_SECONDS)
            if round_:
                told.step(f"{each.load.name}: {each.rates[-1]:,.0f}/s")
            else:
                each.forget()
    recount = Recount(house.valkey.url)
    recount.read_on()
    wrong = recount.mismatches()
    recount.close()
    assert not wrong, f"{wrong} accounts do not hold what their entries add up to"
    return [each.cost() for each in found]


class _Found:
    """What was measured of a load so far."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.forget()

    def forget(self) -> None:
        self.cpu_us: dict[str, list[float]] = {tier: [] for tier in TIERS}
        self.bytes_kept: list[float] = []
        self.rates: list[float] = []
        self.p99s_ms: list[float] = []

    def measure(self, house: House, api: Service, programs: Mapping[str, Process], seconds: float) -> None:
        size = _size(house)
        begun = {tier: cpu_seconds(program) for tier, program in programs.items()}
        asked = self.load.requests(house.token)
        came_to = run(generate(api.port, asked, self.load.clients, seconds))[0]
        assert not came_to.errors, f"{came_to.errors} of {self.load.name} were not answered well"
        _wait_for_the_journal(house)
        operations = came_to.answered * self.load.operations
        for tier, program in programs.items():
            self.cpu_us[tier].append((cpu_seconds(program) - begun[tier]) * 1e6 / operations)
        self.bytes_kept.append((_size(house) - size) / operations)
        self.rates.append(came_to.rate * self.load.operations)
        self.p99s_ms.append(came_to.p99_ms)

    def cost(self) -> Cost:
        return Cost(
            self.load,
            {tier: Samples(values) for tier, values in self.cpu_us.items()},
            sum(self.bytes_kept) / len(self.bytes_kept),
            Samples(self.rates),
            Samples(self.p99s_ms),
        )


def _size(house: House) -> int:
    size: int = run(fetch(house.database_url, "SELECT pg_database_size(current_database())"))[0][0]
    return size


def _wait_for_the_journal(house: House) -> None:
    """Until PostgreSQL has all that Redis has."""
    with Redis.from_url(house.valkey.url) as redis:

        def all_there() -> bool:
            there = [int(redis.hget(keys.meta(shard), "sequence") or 0) for shard in range(SHARDS)]
            rows = run(fetch(house.database_url, "SELECT cursor FROM shards ORDER BY shard"))
            return there == [row["cursor"] for row in rows]

        wait_until(all_there, _DRAIN_SECONDS)
