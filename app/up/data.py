"""The folder in which `lastro up` keeps everything.

    version    which release can read it          lock       held while anything runs on it
    passwords  of Valkey and PostgreSQL           env        LASTRO_* of what runs, while it runs
    dev-key    an API key with all scopes         logs/      what each child said
    valkey/    the append-only file               postgres   the cluster, or a link to where it could be put

The lock is the kernel's (flock): nobody has to remove it after a crash. The servers inherit it, so that it is
held until the last of them has let go of its files.
"""

import fcntl
import os
import secrets
import shlex
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from app.embedded import CannotStart
from app.embedded.postgres import MAJOR
from app.embedded.unprivileged import can_be_reached, data_elsewhere, postgres_user

VERSION = f"lastro data 1, postgresql {MAJOR}"
_LET_GO_SECONDS = 10.0  # for servers of a killed `lastro up` to end


class Passwords(Struct, frozen=True):
    """Of the two servers; made once."""

    valkey: str
    postgres: str


class DataFolder:
    """An open, locked data folder. `close` lets go of it.

    Raises:
        CannotStart: It is another release's, not ours at all, in use, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self._make()
            self.lock = self._take_lock()
        except OSError as error:
            raise CannotStart(
                f"The data folder {path} cannot be used ({error.strerror}); "
                "name another with --data (make: DATA=)."
            ) from error
        try:
            self.environment.unlink(missing_ok=True)  # of a run that was killed
            self._check_version()
            self.passwords = self._settle_passwords()
        except BaseException:
            self.close()
            raise

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def environment(self) -> Path:
        return self.path / "env"

    @property
    def development_key(self) -> Path:
        return self.path / "dev-key"

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """Tell other commands (and shells: `. .lastro/env`) how to reach what runs here."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]
        write_secret(self.environment, "".join(lines))

    def settle_postgres(self) -> Path:
        """Where PostgreSQL's data is, or from now on shall be."""
        place = self.path / "postgres"
        if place.is_symlink():
            target = place.readlink()
            if not target.is_dir():
                raise CannotStart(
                    f"{place} says that PostgreSQL's data is in {target}, and nothing is there."
                )
            return target
        user = postgres_user()
        if user and not place.exists() and not can_be_reached(self.path):
            target = data_elsewhere(user)
            place.symlink_to(target)
            return target
        return place

    def close(self) -> None:
        """Nothing runs here any more."""
        self.environment.unlink(missing_ok=True)
        os.close(self.lock)

    def _make(self) -> None:
        # PostgreSQL runs as somebody else when we are root, and has to get through.
        self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        found = self.path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
            raise CannotStart(
                f"{self.path} belongs to somebody else, or anybody may write to it; "
                "name another with --data (make: DATA=)."
            )

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.path / "lock", flags, 0o600)
        deadline = time.monotonic() + _LET_GO_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(lock, 20, 0).decode(errors="replace").strip()
                if _lives(owner) or time.monotonic() > deadline:
                    os.close(lock)
                    raise CannotStart(
                        f"Another `lastro up` (process {owner or 'unknown'}) uses {self.path}; "
                        "end it, or name another folder with --data (make: DATA=)."
                    ) from None
                time.sleep(0.05)  # it was killed, and its servers are about to end
            else:
                break
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        return lock

    def _check_version(self) -> None:
        file = self.path / "version"
        if file.exists():
            found = file.read_text(encoding="utf-8").strip()
            if found != VERSION:
                raise CannotStart(
                    f"{self.path} was made by another version ({found}; this one reads {VERSION}); "
                    "start the release that made it, or name another folder with --data (make: DATA=)."
                )
        elif {each.name for each in self.path.iterdir()} - {"lock", "logs", ".version.half"}:
            raise CannotStart(
                f"{self.path} is not empty and not a data folder of Lastro; "
                "name another with --data (make: DATA=)."
            )
        else:
            write_secret(file, VERSION + "\n")

    def _settle_passwords(self) -> Passwords:
        file = self.path / "passwords"
        if not file.exists():
            made = Passwords(valkey=secrets.token_urlsafe(24), postgres=secrets.token_urlsafe(24))
            write_secret(file, msgspec.json.encode(made).decode())
        return msgspec.json.decode(file.read_bytes(), type=Passwords)


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    half = file.with_name(f".{file.name}.half")
    half.unlink(missing_ok=True)
    with os.fdopen(
        os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as opened:
        opened.write(text)
    half.replace(file)


def read_environment(folder: Path) -> dict[str, str]:
    """The LASTRO_* lines of the `lastro up` that runs in this folder; nothing when none does."""
    try:
        text = (folder / "env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in shlex.split(text))


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, OSError):
        return False
    return True
