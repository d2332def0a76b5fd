"""Row 14: one ledger behind several API processes on one machine, as docs/capacity.md says they are run.

Where all share a few cores, more processes cannot be as many times faster. What tells how it goes on where
each has a core of its own is the CPU time of a request, in the API and in Redis.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bench.bed import Bed, House, Service
from tests.bench.figures import Line, Samples
from tests.bench.load import CLIENTS
from tests.bench.rows.http import Hits, mismatches
from tests.bench.sizes import Sizes, Told, in_turns
from tests.bench.tiers import cpu_seconds

PROCESSES = (1, 2, 4)


class Together:
    """So many services under one load, each with its part of the clients. `*_us`: CPU time of a request."""

    def __init__(self, bed: Bed, house: House, services: Sequence[Service]) -> None:
        self.hits = [Hits(bed, house, each, CLIENTS // len(services)) for each in services]
        self.api_us: list[float] = []
        self.redis_us: list[float] = []
        self._house = house
        self._services = services

    def __call__(self, seconds: float) -> float:
        answered, cpu = self._answered(), self._cpu()
        with ThreadPoolExecutor(len(self.hits)) as threads:
            rates = list(threads.map(lambda hits: hits(seconds), self.hits))
        answered = self._answered() - answered
        for kept, was, now in zip((self.api_us, self.redis_us), cpu, self._cpu(), strict=True):
            kept.append(1e6 * (now - was) / answered)
        return sum(rates)

    def _answered(self) -> int:
        return sum(each.answered for each in self.hits)

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_seconds, self._services)), cpu_seconds(self._house.valkey)


def measure(bed: Bed, sizes: Sizes, told: Told) -> list[Line]:
    told.say("setting up")
    house = bed.house()
    services = [bed.api(house) for _ in range(max(PROCESSES))]
    things = {count: Together(bed, house, services[:count]) for count in PROCESSES}
    found = in_turns({f"{count} processes": each for count, each in things.items()}, sizes, told)
    told.say("counting again")
    hits = [each for together in things.values() for each in together.hits]
    wrong, errors = mismatches(house, *hits), sum(each.errors for each in hits)
    rates = dict(zip(things, found.values(), strict=True))
    one = rates.pop(1)
    return [
        Line(
            "14",
            f"one deduct per HTTP request, {CLIENTS} connections: {count} API processes against one",
            f"{rate.over(one)} times",
            reached=False if wrong or errors else None,
            beside=f"{rate}/s against {one}/s; {_cpu(things[count])}, of one process {_cpu(things[1])}; "
            f"{wrong} mismatches, {errors} errors",
        )
        for count, rate in rates.items()
    ]


def _cpu(together: Together) -> str:
    """Without the first, which warmed up."""
    api, redis = Samples(together.api_us[1:]), Samples(together.redis_us[1:])
    return f"CPU time of a request: API {api} µs, Redis {redis} µs"
