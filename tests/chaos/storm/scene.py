"""Where a fault happens, and what a fault is."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from app.embedded import Postgres, Process
from tests.chaos.proxy import Proxy
from tests.chaos.storm.stage import Stage


class Scene(NamedTuple):
    """Where a fault happens. `seconds_max`: how long something may hang."""

    stage: Stage
    rng: Random
    seconds_max: float

    @property
    def seconds(self) -> float:
        """How long this time."""
        return self.rng.uniform(self.seconds_max / 4, self.seconds_max)

    @property
    def wire(self) -> Proxy:
        """That of one of the APIs."""
        return self.rng.choice(self.stage.apis).wire


class Fault(NamedTuple):
    """`name` as people read it; `victim`: the part that it befalls, at most one fault at a time."""

    name: str
    victim: str
    strike: Callable[[Scene], Awaitable[None]]


def pids_of(process: Process) -> list[int]:
    """Its pid, and those that PostgreSQL has forked."""
    if not isinstance(process, Postgres):
        return [process.pid]
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        return [process.pid, *map(int, told.read_text().split())]
    except OSError:  # it is gone, or this is not Linux
        return [process.pid]
