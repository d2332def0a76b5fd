"""What several commands have in common."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from app.settings import Settings


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data`: where a running `lastro up` tells other commands how to reach it."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".lastro"),
        show_default=True,
        help="Folder of a running `lastro up`. LASTRO_* variables win over what it says.",
    )(command)


def settings_of(data: Path, **options: object) -> Settings:
    """LASTRO_* of the environment, else of the `lastro up` that runs in `data`; options win over both."""
    from app.up.data import read_environment

    given = {name: str(value) for name, value in options.items() if value is not None}
    return Settings.read({**read_environment(data), **os.environ, **given}, folder=str(data))


def exit_by(good: bool) -> NoReturn:
    """End with 0, or with 1: something was found."""
    click.get_current_context().exit(0 if good else 1)


def log(settings: Settings) -> None:
    """Set up logging for a process that serves."""
    from app import logs

    logs.set_up(settings.log_level)
