"""How far a long command is: a bar with its rate on a terminal, a line at the end elsewhere. On stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


class Counter:
    """What is counted while something runs. `expect` and `add` may be called from any thread."""

    def __init__(self, bar: Any, task: Any) -> None:
        self.done = 0
        self._begun = time.monotonic()
        self._bar = bar
        self._task = task

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @property
    def rate(self) -> str:
        return f"{self.done / max(self.seconds, 0.001):,.0f}/s"

    def expect(self, total: int) -> None:
        """So many there will be."""
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def add(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count, rate=self.rate)


@contextmanager
def counting(what: str) -> Iterator[Counter]:
    """Count while the block runs. `what`: in a word or two, such as `verifying rows`."""
    if not sys.stderr.isatty():
        counter = Counter(None, None)
        yield counter
        click.echo(f"{what}: {counter.done:,} in {counter.seconds:.1f} s ({counter.rate})", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Counter(bar, bar.add_task(what, total=None, rate=""))
