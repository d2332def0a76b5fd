"""`lastro up` as a process that a test starts, asks and ends."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.embedded import Process
from app.up.data import read_environment
from tests import proc

ROOT = Path(__file__).parents[2]
LASTRO = [sys.executable, "-m", "app.cli"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parents")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LASTRO_")}


def lastro(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LASTRO, *arguments],
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


class LastroUp(Process):
    """A running `lastro up --port 0`; `said` is what it has printed since it was started."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__("lastro up", folder / "said", orphan_signal=signal.SIGTERM)
        self.data = folder / "data"
        self._folder = folder
        self._arguments = arguments or ("--data", str(self.data))

    def command(self) -> list[str]:
        return [*LASTRO, "up", "--port", "0", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        return environment()

    def folder(self) -> Path:
        return ROOT

    def spawn(self) -> None:
        self.log.unlink(missing_ok=True)
        super().spawn()

    def is_ready(self) -> bool:
        return "\nkey " in self.said

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def key(self) -> str:
        return self.line("key").split()[0]

    def line(self, word: str) -> str:
        """The rest of the last line that begins with this word."""
        lines = [line for line in self.said.splitlines() if line.startswith(f"{word} ")]
        return lines[-1].removeprefix(word).strip()

    def get(self, path: str, key: str | None = None) -> tuple[int, Any]:
        return self._ask("GET", path, key or self.key)

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return self._ask("POST", path, self.key, json.dumps(body))

    def _ask(self, method: str, path: str, key: str, body: str | None = None) -> tuple[int, Any]:
        port = int(read_environment(self.data)["LASTRO_PORT"])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request(method, path, body, headers={"Authorization": f"Bearer {key}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def code(self, path: str, key: str) -> tuple[int, str]:
        """Status and code of a refusal; nothing when there is no answer."""
        try:
            status, body = self.get(path, key)
        except OSError:
            return 0, ""
        return status, body.get("code", "")

    def answers(self) -> bool:
        try:
            return self.get("/api/credits/balance?accountId=nobody")[0] == 404
        except OSError:
            return False

    def family(self) -> list[proc.Child]:
        """All that it has started, and what that has started."""
        return proc.descendants(self.pid)

    def parts(self, word: str) -> list[proc.Child]:
        """Those that it has started itself and that have this in their command line."""
        return [each for each in self.family() if each.parent == self.pid and word in each.command]
