"""The queues of the workers as people see them, and the protocol through which they are looked at. `main`
plugs in the queues' Redis.
"""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

FAILED_MAX = 50
"""So many of the failed jobs are shown, the latest."""


class QueuesUnavailable(Exception):
    """The queues' Redis does not answer."""


class Queue(Struct, frozen=True):
    """How many jobs of a queue wait, run, and have failed lately."""

    name: str
    waiting: int
    running: int
    failed: int


class Worker(Struct, frozen=True):
    """A worker that has not ended. `alive`: it has shown itself within the last seconds."""

    name: str
    state: str
    alive: bool
    job: str | None
    succeeded: int
    failed: int
    born_at: datetime | None
    seen_at: datetime | None


class FailedJob(Struct, frozen=True):
    """A job that raised, or whose worker died. `error` is its last line, `trace` all of it."""

    id: str
    name: str
    queue: str
    failed_at: datetime | None
    error: str
    trace: str


class AtWork(Struct, frozen=True):
    """All of it at one time. `cron`: whether jobs are put in."""

    queues: list[Queue]
    workers: list[Worker]
    failed: list[FailedJob]
    cron: bool


class Queues(Protocol):
    """Every method raises `QueuesUnavailable` when Redis does not answer."""

    async def look(self) -> AtWork:
        """What there is now."""
        ...

    async def retry(self, job: str) -> bool:
        """Put a failed job in again. `False`: none is kept under this id, or somebody else was quicker."""
        ...
