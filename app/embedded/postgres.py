"""The PostgreSQL that `lastro up` and the tests run: one role and one database, both named `lastro`."""

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from app.embedded.processes import CannotStart
from app.embedded.server import Server
from app.embedded.unprivileged import postgres_programs, postgres_user

MAJOR = 18
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_END_SECONDS = 5.0
_STATUS_LINE = 7  # of postmaster.pid; pg_ctl reads the same


class Postgres(Server):
    """One server.

    Run by root, it runs as `nobody`, who must be able to reach `folder`
    (`app.embedded.unprivileged.can_be_reached`).

    Args:
        folder: Holds its data in `data`. Made when missing; its parent must exist.
        log: The file that gets its output.
        password: Of the role `lastro`, a superuser of this server. Settled when the data is made.
        port: A free one is chosen, and kept for restarts, when `None`.
        durable: False for tests: data survives a crash of the server, not of the machine.
        keep: Descriptors that live as long as the server.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        password: str,
        port: int | None = None,
        durable: bool = True,
        keep: Iterable[int] = (),
    ) -> None:
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions, SIGTERM would wait for them.
        super().__init__(
            "postgresql",
            log,
            port=port,
            end_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            user=postgres_user(),
            keep=keep,
        )
        self._folder = folder.absolute()
        self._password = password
        self._durable = durable

    @property
    def url(self) -> str:
        """Where clients find it, password included. Known once it was started."""
        return self.database_url("lastro")

    def database_url(self, database: str) -> str:
        """The same for another database of this server."""
        return f"postgresql://lastro:{self._password}@127.0.0.1:{self.port}/{database}"

    def kill(self) -> None:
        """Crash it with all that it has forked, which would else answer for a moment longer."""
        forked = self._forked()
        super().kill()
        for pid in forked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _END_SECONDS
        while any(map(_lives, forked)) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _forked(self) -> list[int]:
        """Its child processes; none where the system does not tell (it is not Linux)."""
        if self._child is None:
            return []
        told = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        try:
            return [int(pid) for pid in told.read_text().split()]
        except OSError:
            return []

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            # A statement over the journal takes locks on the tables of all its months.
            "max_locks_per_transaction": "256",
            # What a kill -9 leaves behind goes with the folder, not into the machine's shared memory.
            "dynamic_shared_memory_type": "posix" if self._durable else "mmap",
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(postgres_programs() / "postgres"), "-D", str(self._data), *arguments]

    def environment(self) -> Mapping[str, str]:
        return _ENVIRONMENT

    def folder(self) -> Path:
        return self._folder

    def is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return (
            len(lines) > _STATUS_LINE and lines[0] == str(self.pid) and lines[_STATUS_LINE].strip() == "ready"
        )

    def spawn(self) -> None:
        self._own_folder()
        if not self._data.exists():
            self._make_data()
        super().spawn()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _own_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            if self._user:
                os.chown(self._folder, self._user.uid, self._user.gid, follow_symlinks=False)
        found = self._folder.lstat()
        owner = self._user.uid if self._user else os.geteuid()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise CannotStart(
                f"{self._folder} must be a folder that belongs to user {owner}, who PostgreSQL runs as; "
                "start with another data folder"
            )

    def _make_data(self) -> None:
        half, password_file = self._folder / "half", self._folder / "password"
        shutil.rmtree(half, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._password)
            if self._user:
                os.fchown(file.fileno(), self._user.uid, self._user.gid)
        try:
            self._run(
                *("initdb", "-D", str(half), "-U", "lastro", "--pwfile", str(password_file)),
                *("--auth=scram-sha-256", "-E", "UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                # The password is random and long, so that it needs no thousands of rounds.
                *("--set", "scram_iterations=1", "--no-instructions"),
                *([] if self._durable else ["--no-sync"]),
            )
            self._run("postgres", "--single", "-D", str(half), "postgres", given="CREATE DATABASE lastro;\n")
        finally:
            password_file.unlink(missing_ok=True)
        half.rename(self._data)  # whole or not at all

    def _run(self, program: str, *arguments: str, given: str = "") -> None:
        done = subprocess.run(  # noqa: S603 - what runs here is ours
            [str(postgres_programs() / program), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            env=_ENVIRONMENT,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise CannotStart(f"{program} failed: {said[-1] if said else f'code {done.returncode}'}")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
