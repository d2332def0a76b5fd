"""Ends a command in order whoever ends it: Ctrl-C, SIGTERM, a closed terminal."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

_LOOK_SECONDS = 0.1

T = TypeVar("T")


class Ending:
    """Whether somebody has told us to end.

    A signal is noted and nothing more, so that it tears nobody out of anything, tidying up least of all.
    """

    def __init__(self) -> None:
        self._number = 0

    def hear(self, number: int, _frame: object) -> None:
        """Take a signal; the first one counts."""
        self._number = self._number or number

    def leave(self) -> None:
        """End here if we were told to, with 128 + the signal's number, as shells have it."""
        if self._number:
            raise SystemExit(128 + self._number)

    def give_up(self) -> None:
        """Cancel what calls this if we were told to end: for work that goes on for long without waiting."""
        if self._number:
            raise asyncio.CancelledError

    def run(self, work: Coroutine[object, object, T]) -> T:
        """What comes of `work`; cancelled, and left, when we are told to end."""
        try:
            return asyncio.run(self._run(work))
        finally:
            self.leave()

    async def _run(self, work: Coroutine[object, object, T]) -> T:
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
            if self._number:
                task.cancel()  # more than once: before Python 3.12 asyncio.wait_for may swallow it
        return await task


@contextmanager
def ended_in_order() -> Iterator[Ending]:
    """Note what would else end us. When told to end we do so here, after everything within was tidied up."""
    ending = Ending()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup would have it
        numbers.append(signal.SIGHUP)
    before = {each: signal.signal(each, ending.hear) for each in numbers}
    try:
        yield ending
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        ending.leave()
