"""The blocks of `docs/runbooks.md`, typed into a shell, and held against what they print."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from app.up.data import read_environment
from tests.integration.running import ROOT, LastroUp, environment

BOOK = (ROOT / "docs/runbooks.md").read_text()


class Command(NamedTuple):
    """What is typed, and what is printed, where `...` stands for anything."""

    typed: str
    printed: str


class Played(Protocol):
    """A ledger beside whose folder commands are typed."""

    data: Path

    @property
    def key(self) -> str: ...


class Ledger(LastroUp):
    """A whole ledger in a folder in which one may type what the book says."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, "--data", str(folder / ".lastro"))
        self.data = folder / ".lastro"
        self._settings = settings

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **self._settings}


def sections() -> dict[str, list[list[Command]]]:
    """The blocks under each heading."""
    _, *parts = re.split(r"^## (.*)$", BOOK, flags=re.MULTILINE)
    return {heading: list(_blocks(text)) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


def _blocks(text: str) -> Iterator[list[Command]]:
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        _, *parts = re.split(r"^\$ (.*)$", block, flags=re.MULTILINE)
        yield [Command(*each) for each in zip(parts[::2], parts[1::2], strict=True)]


class Play:
    """The blocks of one section, one after the other. What a command assigns, later ones have.

    Args:
        heading: Of the section.
        ledger: Beside whose folder it is typed.
        assigned: What the section says to have assigned before.
    """

    def __init__(self, heading: str, ledger: Played, **assigned: str) -> None:
        self._blocks = iter(sections()[heading])
        self._ledger = ledger
        self._assigned = "".join(f"{name}={shlex.quote(value)}\n" for name, value in assigned.items())

    def block(self) -> None:
        """Type the next one: each command has to print what stands under it."""
        for command in next(self._blocks):
            printed = self.typed(self._assigned + command.typed, self._ledger)
            if re.match(r"[A-Z]+=", command.typed):
                self._assigned += f"{command.typed}\n"
            assert fits(command.printed, printed), f"$ {command.typed}\n{printed}-- said:\n{command.printed}"

    def is_over(self) -> bool:
        return next(self._blocks, None) is None

    @staticmethod
    def typed(script: str, ledger: Played) -> str:
        """All that it prints, when it is typed beside the ledger's folder."""
        port = read_environment(ledger.data)["LASTRO_PORT"]
        ran = subprocess.run(
            ["/bin/bash", "-uc", script],
            cwd=ledger.data.parent,
            env=environment()
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "KEY": ledger.key,
                "API": f"http://127.0.0.1:{port}/api/credits",
                "COLUMNS": "200",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return ran.stdout


def fits(told: str, printed: str) -> bool:
    """Whether it was printed so, however wide the columns are."""
    parts = (" ".join(part.split()) for part in told.split("..."))
    return re.fullmatch(".*".join(map(re.escape, parts)), " ".join(printed.split()), re.DOTALL) is not None
