"""`lastro demo` from the first line to the last."""

import asyncio
import contextlib
import itertools
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random

import uvloop
from rich.console import Console
from rich.live import Live

from app.demo.api import Api
from app.demo.audit import Audit, Books
from app.demo.board import Board
from app.demo.conclusion import conclusion
from app.demo.errors import CannotTell
from app.demo.shop import Shop
from app.demo.tally import Tally
from app.demo.traffic import Traffic

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 2.0


def run(url: str, key: str, *, seconds: float = 20, accounts: int = 200) -> bool:
    """Play the shop, then check its books. Returns whether every credit is accounted for.

    Args:
        url: Of the API, without a path.
        key: With the scopes spend, grant and read.
        seconds: How long the shop is open; jobs that run then are waited for.
        accounts: How many customers it has.

    Raises:
        CannotTell: The ledger does not answer, or somebody ended it before the check.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(Demo(url, key, seconds, accounts).play())
        except BaseExceptionGroup as several:
            raise _first(several) from several
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise CannotTell("ended before the check; nothing can be said about the credits") from None


class Demo:
    """One run. Its accounts begin with a name of their own, so that it can be repeated on the same ledger."""

    def __init__(self, url: str, key: str, seconds: float, accounts: int) -> None:
        self._seconds = seconds
        self._rng = Random()  # noqa: S311 - an audience, not a secret
        self._console = Console(highlight=False)
        self._tally, self._traffic = Tally(), Traffic()
        self._api = Api(url, key, self._traffic, self._rng)
        name = f"demo-{secrets.token_hex(3)}"
        self._shop = Shop(name, self._api, self._tally, self._rng, accounts=accounts, seconds=seconds)
        heading = f"a shop for AI media at {url}: {accounts:,} accounts, {name}-..."
        self._hint = ""
        self._began = time.monotonic()
        self._board = Board(heading, self._shop.accounts, self._tally, self._traffic)

    async def play(self) -> bool:
        """All of it."""
        async with self._api:
            await self._api.look()
            with _signals(self._close):
                async with self._shown():
                    await self._trade()
                    books = await self._check()
        self._say("")
        for sentence, style in conclusion(books, self._tally, self._traffic):
            self._say(sentence, style)
        return not (books.differences or self._tally.found)

    async def _trade(self) -> None:
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(self._follow_opening())
            await self._shop.open()
            showing.cancel()
        async with asyncio.TaskGroup() as group:
            clock = group.create_task(self._keep_hours())
            await self._shop.trade()
            clock.cancel()

    async def _check(self) -> Books:
        audit = Audit(self._api)
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(self._follow_check(audit.books))
            books = await audit.check(self._shop.accounts)
            showing.cancel()
        self._board.stage, self._board.done = "checked", 1.0
        return books

    async def _follow_opening(self) -> None:
        while True:
            self._board.stage = "opening accounts"
            self._board.done = self._shop.opened / len(self._shop.accounts)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _follow_check(self, books: Books) -> None:
        while True:
            self._board.stage = f"checking every account{self._hint}"
            self._board.done = books.accounts / len(self._shop.accounts)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _keep_hours(self) -> None:
        """Close when the time has come, or when somebody else has closed."""
        began, closing = time.monotonic(), self._shop.closing
        while not closing.is_set():
            passed = time.monotonic() - began
            self._board.stage = f"open, {passed:.0f} of {self._seconds:g} s"
            self._board.done = passed / self._seconds
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_REFRESH_SECONDS, max(0, self._seconds - passed))):
                    await closing.wait()
            if time.monotonic() - began >= self._seconds:
                closing.set()
        self._board.done = 1.0
        self._traffic.settle(time.monotonic() - self._began)
        while True:
            self._board.stage = f"closed, {self._tally.running} jobs still run{self._hint}"
            await asyncio.sleep(_REFRESH_SECONDS)

    @contextlib.asynccontextmanager
    async def _shown(self) -> AsyncIterator[None]:
        """The board on the screen, or a line now and then, for as long as the block runs."""
        show = self._show_table if self._console.is_terminal else self._print_lines
        showing = asyncio.get_running_loop().create_task(show())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait({showing})

    async def _show_table(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._board.table(time.monotonic()), refresh=True)
                    await asyncio.sleep(_REFRESH_SECONDS)
            finally:
                live.update(self._board.table(time.monotonic()), refresh=True)

    async def _print_lines(self) -> None:
        try:
            while True:
                await asyncio.sleep(_LINE_SECONDS)
                self._say(self._board.line(time.monotonic()))
        finally:
            self._say(self._board.line(time.monotonic()))

    def _close(self) -> None:
        """Somebody wants it to end."""
        self._hint = " (Ctrl-C again ends it at once)"
        self._shop.closing.set()
        if not self._console.is_terminal:
            self._say(f"closing{self._hint}")

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(line, style=style, markup=False, soft_wrap=not self._console.is_terminal)


@contextlib.contextmanager
def _signals(close: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `close`; the second ends everything where it is."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heard = itertools.count()

    def hear() -> None:
        if next(heard):
            task.cancel()
        else:
            close()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, hear)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the others, out of however many groups."""
    for each in several.exceptions:
        return _first(each) if isinstance(each, BaseExceptionGroup) else each
    return several
