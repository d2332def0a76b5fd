"""Servers that hang: they take connections, and neither answer nor refuse."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from app.embedded import Postgres


@contextmanager
def hanging(postgres: Postgres) -> Iterator[None]:
    """All of its processes stand still."""
    pids = (postgres.pid, *postgres._forked())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
