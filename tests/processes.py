"""Workers and cron as processes of their own, for tests that kill them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from persistence.told import Work

HOUSE = Path(__file__).parent.parent

WORKER = """
import sys, msgspec
from persistence.work import run_worker
from persistence.told import Work
run_worker(msgspec.json.decode(sys.argv[1], type=Work))
"""

CRON = """
import sys
from persistence.schedule import run_cron
run_cron(sys.argv[1])
"""

Start = Callable[[str, str], subprocess.Popen[bytes]]


@contextmanager
def children() -> Iterator[Start]:
    """Gives a function that starts a program of ours with one argument; what is left is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, argument: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", program, argument], cwd=HOUSE)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def argument(work: Work) -> str:
    """What `WORKER` takes."""
    return msgspec.json.encode(work).decode()
