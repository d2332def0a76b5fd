"""Keeps children alive, and ends them in order."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.embedded import CannotStart, Process

_STEADY_SECONDS = 10.0  # a child that lived so long has not failed at starting
_DELAY_SECONDS = 0.25
_DELAY_SECONDS_MAX = 10.0


@dataclass
class Watched:
    """A child and how often it died young, one after the other."""

    process: Process
    started_at: float
    deaths: int = 0
    due_at: float | None = field(default=None)


class Supervisor:
    """Children in stages: each stage stands on those before it, so that they end the other way round.

    Args:
        say: Called with one line for people.
        clock: Seconds that never go back.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._stages: list[list[Watched]] = []

    def adopt(self, *stage: Process) -> None:
        """Watch these from now on, as one stage. They run already."""
        self._stages.append([Watched(process, self._clock()) for process in stage])

    def look(self) -> None:
        """Start again what has died: at once, and ever more slowly if it keeps dying. Never waits."""
        for stage in self._stages:
            for watched in stage:
                self._look_at(watched)

    def stop(self, seconds: float) -> None:
        """End everything within that time: the last stage first, each asked before it is made to."""
        deadline = self._clock() + seconds
        stages: Sequence[list[Watched]] = self._stages
        for number, stage in enumerate(reversed(stages)):
            left = (deadline - self._clock()) / (len(stages) - number)
            stage_deadline = self._clock() + left
            for watched in stage:
                watched.process.ask_to_end()
            for watched in stage:
                if not watched.process.wait(stage_deadline - self._clock()):
                    self._say(f"{watched.process.name} did not end in time and was killed")
                    watched.process.kill()
        self._stages.clear()

    def kill(self) -> None:
        """End everything now."""
        for stage in reversed(self._stages):
            for watched in stage:
                watched.process.kill()
        self._stages.clear()

    def _look_at(self, watched: Watched) -> None:
        now, process = self._clock(), watched.process
        if process.alive:
            return
        if watched.due_at is None:
            watched.deaths = 1 if now - watched.started_at >= _STEADY_SECONDS else watched.deaths + 1
            delay = self._delay(watched.deaths)
            watched.due_at = now + delay
            when = f"in {delay:g} s" if delay else "now"
            self._say(f"{process.name} {process.ending}; it is started again {when} (its log: {process.log})")
        if now >= watched.due_at:
            watched.due_at, watched.started_at = None, now
            try:
                process.spawn()
            except (CannotStart, OSError) as error:
                self._say(f"{process.name} cannot be started: {error}")

    @staticmethod
    def _delay(deaths: int) -> float:
        """0 s after the first death, then 0.25 s, 0.5 s, 1 s, ... up to 10 s."""
        return min(_DELAY_SECONDS * 2 ** (deaths - 2), _DELAY_SECONDS_MAX) if deaths > 1 else 0.0
