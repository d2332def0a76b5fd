"""A `lastro` command as a child of `lastro up`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import app
from app.embedded import Process


class Program(Process):
    """One command with settings of its own; what the environment says about `LASTRO_*` does not reach it.

    Args:
        name: What people call it.
        log: The file that gets its output.
        arguments: `api`, `worker`, ... and their options.
        settings: Its `LASTRO_*`.
    """

    def __init__(self, name: str, log: Path, arguments: list[str], settings: Mapping[str, str]) -> None:
        super().__init__(name, log)
        self._arguments = arguments
        self._settings = settings

    def command(self) -> list[str]:
        return [sys.executable, "-m", "app.cli", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith("LASTRO_")}
        return {**others, **self._settings}

    def folder(self) -> Path:
        return Path(app.__file__).parent.parent  # so that `-m app.cli` finds this very package
