"""Disks that are full. A Valkey is told by the system that its files cannot grow (RLIMIT_FSIZE).
PostgreSQL gets a small disk of its own (tmpfs), where we are root and may mount one.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded import Valkey

_PIECE = bytes(4096)


class LimitedValkey(Valkey):
    """Its files can be kept from growing."""

    def command(self) -> list[str]:
        # `write` is to say that there is no room; SIGXFSZ would kill
        return ["/bin/sh", "-c", 'trap "" XFSZ; exec "$0" "$@"', *super().command()]

    def fill_disk(self, room_bytes: int) -> None:
        """From now on the append-only file grows by so much and no further."""
        size = max(path.stat().st_size for path in self.folder().rglob("*.incr.aof"))
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size + room_bytes, resource.RLIM_INFINITY))

    def clear_disk(self) -> None:
        """There is room again."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class SmallDisk:
    """A disk of some megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take all that is left."""
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(_PIECE):
                    pass
            except OSError:
                pass

    def clear(self) -> None:
        """Give it back."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk | None]:
    """`None` where we may not mount."""
    folder.mkdir(mode=0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
    may = os.geteuid() == 0 and shutil.which("mount") is not None
    mounted = may and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607
