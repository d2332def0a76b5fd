"""Folders of tests and their servers, in memory where there is plenty: databases are made by copying some
hundred files, a few times for each of some thousand tests, and none of it has to survive the machine.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it are made by mkdtemp
MEMORY_BYTES_MIN = 4 * 1024**3
"""That must be free. Containers often have 64 MiB."""

PREFIX = "lastro-test-"
LEFT_SECONDS = 60.0


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL can enter when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_place()))
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    if os.geteuid() == 0:
        folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
    os.close(lock)


@cache
def _place() -> Path | None:
    """Where folders are made; `None`: where the system makes them."""
    try:
        is_roomy = shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN and os.access(MEMORY, os.W_OK)
    except OSError:
        return None
    if not is_roomy:
        return None
    for folder in MEMORY.glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(folder)
    return MEMORY


def _remove_if_left(folder: Path) -> None:
    """What a killed run has left behind takes memory, and nobody holds its lock."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - folder.stat().st_mtime > LEFT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
