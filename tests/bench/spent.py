"""Where the time of an operation goes: as Redis adds it up for each command, also for those of a script."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from redis import Redis

_SCRIPT = "cmdstat_evalsha"
_SHOWN = 6


class Spent(NamedTuple):
    """Microseconds of an operation: in the script altogether, and of them in each command that it calls."""

    whole_us: float
    commands_us: Mapping[str, float]

    @property
    def lua_us(self) -> float:
        """What is left: reading and writing texts, deciding, and Lua itself."""
        return self.whole_us - sum(self.commands_us.values())

    def __str__(self) -> str:
        dearest = Counter(self.commands_us).most_common(_SHOWN)
        others = sum(self.commands_us.values()) - sum(us for _, us in dearest)
        parts = [*dearest, *([("other commands", others)] if len(self.commands_us) > _SHOWN else [])]
        return f"{self.lua_us:.1f} in Lua, " + ", ".join(f"{us:.1f} in {name}" for name, us in parts)


class Watched:
    """A measurement, and Redis' own sums before and after. `operations`: how many it has come to so far."""

    def __init__(self, url: str, measure: Callable[[float], float], operations: Callable[[], int]) -> None:
        self._url = url
        self._measure = measure
        self._operations = operations
        self._done = 0
        self._us: Counter[str] = Counter()

    def __call__(self, seconds: float) -> float:
        done, before = self._operations(), self._look()
        rate = self._measure(seconds)
        self._us.update(self._look() - before)
        self._done += self._operations() - done
        return rate

    def spent(self) -> Spent:
        """Of all that was measured."""
        each = {name: us / self._done for name, us in self._us.items()}
        whole = each.pop(_SCRIPT)
        return Spent(
            whole, {name.removeprefix("cmdstat_").replace("|", " ").upper(): us for name, us in each.items()}
        )

    def _look(self) -> Counter[str]:
        with Redis.from_url(self._url, protocol=2) as redis:
            told: dict[str, Any] = redis.info("commandstats")
        return Counter({name: its["usec"] for name, its in told.items() if name not in _OURS})


def _named(stat: str) -> str:
    return stat.removeprefix("cmdstat_").replace("|", " ").upper()


_OURS = {"cmdstat_info", "cmdstat_auth", "cmdstat_client|setinfo", "cmdstat_script|load"}
"""What this looks with, and what comes before."""
