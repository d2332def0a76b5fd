"""Processes that die where the test says."""

from collections.abc import Awaitable, Callable


class Killed(Exception):
    """The process died here."""


def dies_at(step: str, time: int = 1) -> Callable[[str], Awaitable[None]]:
    """A barrier at which a process dies, the `time`-th time that it comes there."""
    left = time

    async def barrier(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left <= 0:
                raise Killed

    return barrier
