"""What Valkey and PostgreSQL have in common: a TCP port on 127.0.0.1 that stays the same over restarts."""

import signal
from collections.abc import Iterable
from pathlib import Path

from app.embedded.ports import free_port, is_free
from app.embedded.processes import CannotStart, Process, User

_PORT_TRIES_MAX = 5


class Server(Process):
    """A child that listens. `port` is 0 until it is known: without one, a free port from its first start."""

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        port: int | None,
        end_signal: signal.Signals = signal.SIGTERM,
        orphan_signal: signal.Signals,
        user: User | None = None,
        keep: Iterable[int] = (),
    ) -> None:
        super().__init__(name, log, end_signal=end_signal, orphan_signal=orphan_signal, user=user, keep=keep)
        self.port = port or 0
        self._port_is_settled = bool(port)

    def spawn(self) -> None:
        if not self.port:
            self.port = free_port()
        super().spawn()

    def start(self, ready_seconds: float = 60.0) -> None:
        for _ in range(_PORT_TRIES_MAX):
            try:
                super().start(ready_seconds)
            except CannotStart:
                if self._port_is_settled or is_free("127.0.0.1", self.port):
                    raise
                self.port = 0  # somebody else took it between our look and our start
            else:
                self._port_is_settled = True
                return
        raise CannotStart(f"{self.name} found no free port in {_PORT_TRIES_MAX} tries")
