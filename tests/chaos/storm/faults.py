"""What may happen to the parts of a ledger. Each fault makes good itself what it broke."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from app.embedded import Process
from tests.chaos.storm import disks
from tests.chaos.storm.scene import Fault, Scene, pids_of

DOWN_SECONDS_MAX = 1.0
AWAY_TIMES = 3
LOST_MAX = 6


def _one_of(name: str) -> Callable[[Scene], Process]:
    """Chooses the process that is meant."""

    def choose(scene: Scene) -> Process:
        stage = scene.stage
        among: dict[str, list[Process]] = {
            "valkey": [stage.valkey],
            "postgresql": [stage.postgres],
            "api": [api.process for api in stage.apis],
            "worker": stage.workers,
            "cron": [stage.cron],
        }
        return scene.rng.choice(among[name])

    return choose


def kill(name: str) -> Fault:
    """`kill -9`, and back after a moment."""
    choose = _one_of(name)

    async def strike(scene: Scene) -> None:
        process = choose(scene)
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(scene.rng.choice((0.0, scene.rng.uniform(0, DOWN_SECONDS_MAX))))
        await scene.stage.revive(process)

    return Fault(f"kill -9 {name}", name, strike)


def stop(name: str) -> Fault:
    """SIGSTOP: it hangs, its connections stay open, and it goes on where it was as if nothing had been."""
    choose = _one_of(name)

    async def strike(scene: Scene) -> None:
        pids = pids_of(choose(scene))
        _signal(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(scene.seconds)
        finally:
            _signal(pids, signal.SIGCONT)

    return Fault(f"SIGSTOP {name}", name, strike)


async def _kill_workers(scene: Scene) -> None:
    """Both, so that the journal stands still for a moment."""
    for process in scene.stage.workers:
        await asyncio.to_thread(process.kill)
    await asyncio.sleep(scene.rng.uniform(0, DOWN_SECONDS_MAX))
    for process in scene.stage.workers:
        await scene.stage.revive(process)


async def _away(scene: Scene) -> None:
    """PostgreSQL is not there for long, and credits go on moving."""
    server = scene.stage.postgres
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(scene.seconds_max * AWAY_TIMES)
    await scene.stage.revive(server)


async def _lose_seconds(scene: Scene) -> None:
    """A PostgreSQL that does not have the last seconds takes over, as a standby does that was behind."""
    server = scene.stage.postgres
    data, copy = server.folder() / "data", server.folder() / "behind"
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(_copy, data, copy)
    await scene.stage.revive(server)
    await asyncio.sleep(scene.seconds)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(shutil.rmtree, data)
    copy.rename(data)
    await scene.stage.revive(server)


def _copy(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy)
    owner = folder.stat()
    for each in (copy, *copy.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)


async def _cut(scene: Scene) -> None:
    wire = scene.wire
    await wire.go_down()
    await asyncio.sleep(scene.rng.choice((0.0, scene.seconds / 2)))
    await wire.come_up()


async def _lose(scene: Scene) -> None:
    """The next answers are lost after the server has done what was asked, and the connection breaks."""
    wire = scene.wire
    wire.lose_answers(scene.rng.randint(1, LOST_MAX))
    await asyncio.sleep(scene.seconds / 2)
    wire.lose_answers(0)


async def _swallow(scene: Scene) -> None:
    """An answer is lost and the connection stays open: nothing comes until the API gives up."""
    wire = scene.wire
    wire.lose_answers(scene.rng.randint(1, 2), cut=False)
    await asyncio.sleep(scene.seconds)
    wire.lose_answers(0)


async def _delay(scene: Scene) -> None:
    """No request passes for a while; those on the way arrive afterwards, wanted or not."""
    wire = scene.wire
    wire.hold_back()
    try:
        await asyncio.sleep(scene.seconds)
    finally:
        wire.let_through()


async def _keep(scene: Scene) -> None:
    """Calls are kept on the way, repeated by whoever waits, and delivered in the end: late copies."""
    wire = scene.wire
    wire.keep_calls(scene.rng.randint(1, 3))
    try:
        await asyncio.sleep(scene.seconds)
    finally:
        wire.deliver_kept()


ALL: tuple[Fault, ...] = (
    *map(kill, ("valkey", "postgresql", "api", "worker", "cron")),
    Fault("kill -9 both workers", "worker", _kill_workers),
    *map(stop, ("valkey", "postgresql", "api", "worker", "cron")),
    Fault("postgresql away", "postgresql", _away),
    Fault("postgresql loses seconds", "postgresql", _lose_seconds),
    Fault("wire: cut", "wire", _cut),
    Fault("wire: answers lost, cut", "wire", _lose),
    Fault("wire: answers lost, silent", "wire", _swallow),
    Fault("wire: requests delayed", "wire", _delay),
    Fault("wire: late copies", "wire", _keep),
    *disks.FULL,
)


def named(*names: str) -> tuple[Fault, ...]:
    """Some of them."""
    found = {fault.name: fault for fault in ALL}
    return tuple(found[name] for name in names)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
