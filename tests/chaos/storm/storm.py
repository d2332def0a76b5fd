"""A storm: rounds of faults under load, each followed by calm in which everything is checked."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from app.embedded import CannotStart
from tests.chaos.storm.deck import Deck
from tests.chaos.storm.faults import ALL
from tests.chaos.storm.inspection import inspected
from tests.chaos.storm.report import Report
from tests.chaos.storm.scene import Fault, Scene
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.town import Town

ANSWERED_SECONDS = 60.0
_LOOK_SECONDS = 0.02


class Plan(NamedTuple):
    """What is to happen. `seconds_max`: how long something may hang; `broken`: see `sabotage`."""

    faults: int
    seed: int
    per_round: int = 8
    seconds_max: float = 4.0
    quiet_seconds_max: float = 0.6
    kinds: Sequence[Fault] = ALL
    broken: str = ""


async def storm(plan: Plan, folder: Path, say=lambda _line: None) -> Report:
    """Raise it in an empty folder. Ends early at the first round in which something was found.

    To be called in the main thread, to which the kernel ties the servers.
    """
    began = time.monotonic()
    async with Stage(folder, broken=plan.broken) as stage, inspected(stage, plan.seed) as inspection:
        report = Report(plan.seed, inspection.book)
        weather = _Weather(plan, stage, inspection.town, report)
        while report.faults.total() < plan.faults and report.good:
            await weather.one_round()
            await inspection.calm()
            weather.forget_wires()
            report.rounds += 1
            say(
                f"round {report.rounds}: {report.faults.total()} faults, {len(report.book.records)} "
                f"operations, {report.book.findings.count} findings, {time.monotonic() - began:.0f} s"
            )
        if report.good:
            await inspection.calm(everything=True)
        report.rows, report.seconds = sum(inspection.history.cursors), time.monotonic() - began
    return report


class _Weather:
    """Deals out the faults."""

    def __init__(self, plan: Plan, stage: Stage, town: Town, report: Report) -> None:
        self._plan = plan
        self._stage = stage
        self._town = town
        self._report = report
        self._rng = Random(plan.seed)
        self._deck = Deck(plan.kinds, self._rng)

    async def one_round(self) -> None:
        """Some faults, while everybody asks; each is over and answers come again before the next."""
        ends = min(self._plan.faults, self._report.faults.total() + self._plan.per_round)
        async with self._town.at_work():
            while (left := ends - self._report.faults.total()) > 0 and self._report.good:
                await asyncio.sleep(self._rng.uniform(0, self._plan.quiet_seconds_max))
                await self._strike(self._deck.deal(left))

    def forget_wires(self) -> None:
        """Count what the wires did, and let go of what they remember."""
        for api in self._stage.apis:
            wire = api.wire
            self._report.late_copies += wire.kept
            self._report.answers_lost += wire.lost
            wire.kept = wire.lost = 0
            wire.requests.clear()
            wire.answers.clear()

    async def _strike(self, faults: Sequence[Fault]) -> None:
        book, names = self._report.book, [fault.name for fault in faults]
        book.silence = 0.0
        scenes = [Scene(self._stage, Random(self._rng.random()), self._plan.seconds_max) for _ in faults]
        self._report.faults.update(names)
        ends = await asyncio.gather(
            *(fault.strike(scene) for fault, scene in zip(faults, scenes, strict=True)),
            return_exceptions=True,
        )
        for end in ends:
            if isinstance(end, CannotStart | TimeoutError):
                book.findings.add(f"after {names}: {end}\n{self._stage.logs(8)}")
            elif end is not None:
                raise end
        over, answered = time.monotonic(), book.answered
        while book.answered == answered and self._report.good:
            if time.monotonic() - over > ANSWERED_SECONDS:
                book.findings.add(
                    f"no answer within {ANSWERED_SECONDS:g} s after {names}\n{self._stage.logs(8)}"
                )
                return
            await asyncio.sleep(_LOOK_SECONDS)
        for name in names:
            self._report.silences[name] = max(self._report.silences[name], book.silence)
