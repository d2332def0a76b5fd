"""Child processes that do not outlive the process that started them.

On Linux the kernel ends a child when the *thread* that started it dies (`PR_SET_PDEATHSIG`), so children are
started from the main thread only. Elsewhere they end with an orderly stop, and outlive a `kill -9` of us.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

_PR_SET_PDEATHSIG = 1
_LOG_BYTES_MAX = 10 * 1024 * 1024
_POLL_SECONDS = 0.01


class CannotStart(Exception):
    """Something cannot be started; the text is one sentence that says why and what to do."""


class User(NamedTuple):
    """An account of the system."""

    uid: int
    gid: int


def dies_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """What a fresh child of this process calls first, so that it gets `signal_number` when we are gone."""
    if sys.platform != "linux":
        return _nothing
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the tie was made
            os._exit(1)

    return tie


def _nothing() -> None:
    """Elsewhere than on Linux nothing ties a child to its parent."""


class Process:
    """One child: started, asked whether it lives, ended. Can be started again after it ended.

    Args:
        name: What people call it.
        log: The file that gets its output; begun anew at a start once it is over 10 MiB.
        end_signal: Asks it to end in good order.
        orphan_signal: What the kernel sends when we are gone.
        user: Another account to run as; ours when `None`.
        keep: Descriptors that it inherits, such as a lock that must live as long as it does.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        end_signal: signal.Signals = signal.SIGTERM,
        orphan_signal: signal.Signals = signal.SIGKILL,
        user: User | None = None,
        keep: Iterable[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._end_signal = end_signal
        self._orphan_signal = orphan_signal
        self._user = user
        self._keep = tuple(keep)
        self._child: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Program and arguments. No secrets: everybody on the machine may read them."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """The whole environment of the child."""
        raise NotImplementedError

    def folder(self) -> Path:
        """Where the child runs."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it does its work already. Asked only while it lives."""
        return True

    @property
    def pid(self) -> int:
        """The child's process id, also after it has ended. It must have been started."""
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._child.poll() if self._child else None
        if code is None:
            return "has not ended"
        if code >= 0:
            return f"ended with code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    def spawn(self) -> None:
        """Start it and return at once, ready or not."""
        assert threading.current_thread() is threading.main_thread(), "the kernel ties a child to this thread"
        assert not self.alive, f"{self.name} runs already"
        user = self._user
        with self._open_log() as log:
            self._child = subprocess.Popen(  # noqa: S603 - what runs here is ours
                self.command(),
                env=self.environment(),
                cwd=self.folder(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal reaches us alone, and we end them in order
                preexec_fn=dies_with_parent(self._orphan_signal),  # noqa: PLW1509 - main thread only
                pass_fds=self._keep,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )

    def start(self, ready_seconds: float = 60.0) -> None:
        """Start it and wait until it is ready.

        Raises:
            CannotStart: It ended, or was not ready in time (and is dead then).
        """
        self.spawn()
        deadline = time.monotonic() + ready_seconds
        while not (self.alive and self.is_ready()):
            if not self.alive:
                raise CannotStart(f"{self.name} {self.ending} while it started: {self.last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise CannotStart(
                    f"{self.name} was not ready within {ready_seconds:g} s; its log is {self.log}"
                )
            time.sleep(_POLL_SECONDS)

    def ask_to_end(self) -> None:
        """Send the end signal and return at once."""
        if self.alive:
            self._signal(self._end_signal)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        if self._child is None:
            return True
        try:
            self._child.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, seconds: float = 5.0) -> None:
        """End it in good order, by force after that time."""
        self.ask_to_end()
        if not self.wait(seconds):
            self.kill()

    def kill(self) -> None:
        """End it without a chance to tidy up, as a crash would (SIGKILL), and wait for that."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()

    def restart(self) -> None:
        """Crash it, then start it on the same data, port and password."""
        self.kill()
        self.start()

    def last_words(self, lines_max: int = 1) -> str:
        """The end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(self.log.stat().st_size - 16_384, 0))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return "\n".join(lines[-lines_max:]) or f"it said nothing in {self.log}"

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None, f"{self.name} was never started"
        self._child.send_signal(number)  # does nothing to a child that has been waited for

    def _open_log(self) -> BinaryIO:
        too_long = self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | (os.O_TRUNC if too_long else 0)
        return os.fdopen(os.open(self.log, flags, 0o600), "ab")
