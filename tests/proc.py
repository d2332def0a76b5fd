"""Processes as Linux shows them in /proc."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _STARTED = 1, 19  # fields of `stat`, counted from the one after the name
_IN_LINE = 1  # field of `schedstat`, in nanoseconds


class Child(NamedTuple):
    """A process that another one has started."""

    pid: int
    parent: int
    started_at: float
    """By the kernel's own record, in seconds of `now`; rounded up to a tick of 10 ms."""

    @property
    def command(self) -> str:
        """With its arguments; empty once it has ended."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""


def now() -> float:
    """The clock of `started_at`: seconds since the machine was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def descendants(pid: int) -> list[Child]:
    """Its children, their children, and so on."""
    everybody = _everybody()
    found: list[Child] = []
    row = [pid]
    while row:
        children = [each for each in everybody if each.parent in row]
        found += children
        row = [each.pid for each in children]
    return found


def seconds_in_line(pid: int) -> float:
    """How long its threads were ready to run and had to wait for a processor, which others had.

    What a promise in seconds leaves out, so that a test of it judges Lastro and not the machine: a busy one
    adds here all that it adds. 0 once it has ended, or where the kernel does not count.
    """
    waited = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):
            waited += int(file.read_text().split()[_IN_LINE])
    return waited / 1e9


def lives(pid: int) -> bool:
    """Whether it has not ended; one that has, and that nobody has waited for yet, does not live."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _everybody() -> list[Child]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        started_at = (int(fields[_STARTED]) + 1) / _TICKS
        found.append(Child(int(folder.name), int(fields[_PARENT]), started_at))
    return found
