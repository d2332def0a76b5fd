"""What may happen to the parts of a ledger. Each fault makes good itself what it broke."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from app.embedded import Postgres, Process
from app.embedded.unprivileged import postgres_user
from tests.chaos.proxy import Proxy
from tests.chaos.storm.stage import Stage

DOWN_SECONDS_MAX = 1.0
AWAY_TIMES = 3
LOST_MAX = 6
PRLIMIT = shutil.which("prlimit")
"""Without it (elsewhere than on Linux) no disk is ever full."""
_SMALL = 1 << 20
_SEGMENT = 16 << 20


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
        pids = _all_of(choose(scene))
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


async def _fill_valkeys_disk(scene: Scene) -> None:
    """Its file may not grow beyond where it is: a write ends in the middle, and so does the server.

    With `appendfsync always` it would exit at ENOSPC too, before it answers what it could not write; here the
    kernel ends it (SIGXFSZ) at the same point.
    """
    server = scene.stage.valkey
    written = max((file.stat().st_size for file in server.folder().rglob("*.aof")), default=0)
    limit_files([server.pid], written + 4096)
    await asyncio.sleep(scene.seconds)
    if server.alive:  # nobody wrote as much
        limit_files([server.pid], None)
    await scene.stage.revive(server)


async def _fill_postgres_disk(scene: Scene) -> None:
    """No file of its may grow beyond a size. PostgreSQL ignores SIGXFSZ so that this is like a full disk:
    tables cannot be extended, or (the smaller size) the write-ahead log cannot be written and it gives up.
    """
    server = scene.stage.postgres
    size = scene.rng.choice((_SMALL, _SEGMENT))
    await asyncio.to_thread(limit_files, _all_of(server), size)
    await asyncio.sleep(scene.seconds)
    while server.alive and (bound := [pid for pid in _all_of(server) if _is_limited(pid)]):
        await asyncio.to_thread(limit_files, bound, None)  # those that were forked meanwhile, too
    await scene.stage.revive(server)


_FULL_DISKS = (
    Fault("disk full: valkey", "valkey", _fill_valkeys_disk),
    Fault("disk full: postgresql", "postgresql", _fill_postgres_disk),
)

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
    *(_FULL_DISKS if PRLIMIT else ()),
)


def named(*names: str) -> tuple[Fault, ...]:
    """Some of them."""
    found = {fault.name: fault for fault in ALL}
    return tuple(found[name] for name in names)


def _all_of(process: Process) -> list[int]:
    """Its pid, and those that PostgreSQL has forked."""
    if not isinstance(process, Postgres):
        return [process.pid]
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        return [process.pid, *map(int, told.read_text().split())]
    except OSError:  # it is gone, or this is not Linux
        return [process.pid]


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def limit_files(pids: Iterable[int], size: int | None) -> None:
    """How many bytes their files may have from now on, those that they have open included; `None`: any.

    Asked of the kernel in the name of whom they run as: root itself may lack the capability.
    """
    user = postgres_user()
    for pid in pids:
        with suppress(FileNotFoundError):  # it has ended
            theirs = user is not None and Path(f"/proc/{pid}").stat().st_uid == user.uid
            subprocess.run(
                [PRLIMIT or "", "--pid", str(pid), f"--fsize={'unlimited' if size is None else size}:"],
                check=False,
                capture_output=True,
                user=user.uid if theirs and user else None,
                group=user.gid if theirs and user else None,
            )


def _is_limited(pid: int) -> bool:
    try:
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("Max file size") and line.split()[3] != "unlimited" for line in limits)
