"""Disks that are full: no file of a server may grow beyond a size (RLIMIT_FSIZE), which needs no root."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from app.embedded.unprivileged import postgres_user
from tests.chaos.storm.scene import Fault, Scene, pids_of

PRLIMIT = shutil.which("prlimit")
"""Without it (elsewhere than on Linux) no disk is ever full."""
_SMALL = 1 << 20
_LIFT_SECONDS = 10.0
_SEGMENT = 16 << 20


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
    await asyncio.to_thread(limit_files, pids_of(server), size)
    await asyncio.sleep(scene.seconds)
    async with asyncio.timeout(_LIFT_SECONDS):
        while server.alive and (bound := [pid for pid in pids_of(server) if _is_limited(pid)]):
            await asyncio.to_thread(limit_files, bound, None)  # those that were forked meanwhile, too
    await scene.stage.revive(server)


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


FULL = (
    (
        Fault("disk full: valkey", "valkey", _fill_valkeys_disk),
        Fault("disk full: postgresql", "postgresql", _fill_postgres_disk),
    )
    if PRLIMIT
    else ()
)
