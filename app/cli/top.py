"""`lastro top`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.local import key_of, url_of
from app.cli.refusals import Refusal
from app.cli.shared import data_option

if TYPE_CHECKING:
    from rich.console import Console

    from app.top.asking import Asking
    from app.top.board import Board

GOOD, FOUND, COULD_NOT_TELL = 0, 1, 2
_CODES = {"healthy": GOOD, "warning": FOUND, "critical": FOUND}

BETWEEN_SECONDS = 1.0
"""Of the two looks from which one who looks once is told the rate."""


@click.command(short_help="How the ledger is, live in this terminal.")
@data_option
@click.option("--url", help="Of the API of another ledger; needs --key.")
@click.option("--key", help="With the scope read, instead of the development key.")
@click.option(
    "--period",
    type=click.Choice(["hour", "day", "week", "month"]),
    default="hour",
    show_default=True,
    help="The steps of what was spent.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Between two looks."
)
@click.option("--once", is_flag=True, help="Look, print it, and end.")
def top(data: Path, url: str | None, key: str | None, period: str, seconds: float, once: bool) -> None:  # noqa: PLR0917 - click passes them by name
    """Show how the ledger is: credits, rate, what was spent, health, and what needs attention.

    Goes on until Ctrl-C; where there is no terminal, with a line for each look. Over HTTP, so that it works
    from anywhere that reaches the API.

    Exit codes of --once: 0 all is well, 1 something needs attention, 2 could not tell.
    """
    from rich.console import Console

    from app.top.asking import Asking, Refused
    from app.top.board import Board

    if url is not None and not key:
        raise Refusal("--url needs --key: the development key is for its own ledger")
    url, console = url or url_of(data), Console(highlight=False)
    board = Board(url, plain=not console.encoding.startswith("utf"))
    try:
        with Asking(url, key or key_of(data), period) as asking:
            if once:
                _once(asking, board, console)
            else:
                _live(asking, board, console, seconds)
    except Refused as error:
        raise Refusal(str(error)) from error


def _once(asking: "Asking", board: "Board", console: "Console") -> None:
    _look(asking, board)
    if not board.why:
        time.sleep(BETWEEN_SECONDS)
        _look(asking, board)
    console.print(board.blocks(_clock()))
    code = COULD_NOT_TELL if board.why else _CODES.get(board.status, COULD_NOT_TELL)
    click.get_current_context().exit(code)


def _live(asking: "Asking", board: "Board", console: "Console", seconds: float) -> None:
    from rich.live import Live

    try:
        if not console.is_terminal:
            while True:
                _look(asking, board)
                click.echo(board.line(_clock()))
                time.sleep(seconds)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                _look(asking, board)
                live.update(board.blocks(_clock()), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _look(asking: "Asking", board: "Board") -> None:
    """One look."""
    from app.top.asking import NoAnswer

    try:
        board.take(asking.look())
    except NoAnswer as error:
        board.miss(str(error))


def _clock() -> str:
    return time.strftime("%H:%M:%S")
