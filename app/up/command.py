"""`lastro up` from the first line to the last."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from msgspec.structs import replace
from rich.console import Console

from app.embedded import CannotStart, Postgres, Valkey
from app.embedded.ports import free_port, is_free
from app.settings import Settings
from app.up.data import DataFolder
from app.up.development import development_key
from app.up.program import Program
from app.up.readiness import Readiness
from app.up.supervisor import Supervisor
from persistence.birth import RedisLost, give_birth
from persistence.migrate import migrate

WORKERS = 2
_STOP_SECONDS = 4.5  # of the 5 promised
_GRACE_SECONDS = 1  # that the API gives to open requests
_LOOK_SECONDS = 0.05
_BROUGHT = {
    "LASTRO_REDIS_URL": "redis://ours",
    "LASTRO_QUEUE_URL": "redis://ours",
    "LASTRO_DATABASE_URL": "postgresql://ours",
}


class Stop(KeyboardInterrupt):
    """Somebody asked us to end: Ctrl-C, SIGTERM, a closed terminal."""


def run(
    data: Path, *, port: int | None, ephemeral: bool, environment: Mapping[str, str] = os.environ
) -> None:
    """Run a ledger in the folder `data` until somebody asks us to end.

    Args:
        data: Made when missing; not used when `ephemeral`.
        port: Of the API; 0: any free one; `None`: as `LASTRO_PORT` says.
        ephemeral: Keep nothing: the data lives in a temporary folder and is removed at the end.
        environment: `LASTRO_*` for all parts. Where the servers are is not among it: they are our own.

    Raises:
        CannotStart: One sentence for people; so are
        SettingsError:
        persistence.birth.BirthRefused:
        persistence.migrate.MigrationRefused:
    """
    with suppress(Stop), ExitStack() as stack:
        stack.enter_context(_signals_raise_stop())
        settings = _settings(port, environment)
        if ephemeral:
            data = stack.enter_context(_temporary_folder())
        folder = DataFolder(data)
        stack.callback(folder.close)
        if not is_free(settings.host, settings.port):
            raise CannotStart(
                f"Port {settings.port} on {settings.host} is in use; name another with --port (make: PORT=)."
            )
        up = Up(folder, settings)
        stack.callback(up.end)
        up.start()
        up.watch()


class Up:
    """One run in one folder."""

    def __init__(self, folder: DataFolder, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._supervisor = Supervisor(self._say)

    def start(self) -> None:
        """Start everything; the API may need some moments more until it is ready."""
        self._start_servers()
        self._found_or_resume()
        self._folder.write_environment(self._settings.environment())
        self._start_programs()

    def watch(self) -> None:
        """Keep everything alive, for ever."""
        readiness = Readiness(self._settings.host, self._settings.port)
        ready = False
        while True:
            self._supervisor.look()
            if not ready:
                ready = readiness.ask()
                if ready:
                    self._say(f"ready {readiness.url}")
                    self._say(f"pages {readiness.url}/dashboard (sign in with the key), {readiness.url}/docs")
                    key_file = self._folder.development_key
                    self._say(f"key   {self._key} (all scopes; also in {key_file})")
                elif explanation := readiness.explanation():
                    self._say(explanation)
            time.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """End everything in order; a second Ctrl-C, at once."""
        self._say("ending")
        try:
            self._supervisor.stop(_STOP_SECONDS)
        except Stop:
            self._supervisor.kill()
        self._say("ended")

    def _start_servers(self) -> None:
        folder, keep = self._folder, (self._folder.lock,)
        postgres_folder = folder.settle_postgres()
        valkey = Valkey(
            folder.valkey, folder.logs / "valkey.log", password=folder.passwords.valkey, keep=keep
        )
        postgres = Postgres(
            postgres_folder, folder.logs / "postgresql.log", password=folder.passwords.postgres, keep=keep
        )
        self._supervisor.adopt(valkey, postgres)
        valkey.start()
        self._say(f"valkey      127.0.0.1:{valkey.port}, data in {folder.valkey}")
        postgres.start()
        self._say(f"postgresql  127.0.0.1:{postgres.port}, data in {postgres_folder}")
        self._settings = replace(
            self._settings, redis_url=valkey.url, queue_url=valkey.url, database_url=postgres.url
        )

    def _found_or_resume(self) -> None:
        settings = self._settings
        asyncio.run(migrate(settings.database_url))
        try:
            ledger = asyncio.run(give_birth(settings.database_url, settings.redis_url, settings.shards))
        except RedisLost as lost:  # the API serves, says so to whoever asks, and goes on after the restore
            ledger = lost.ledger
            self._say(f"{lost} Until then the API answers 503.")
        self._say(f"ledger      {ledger}, {settings.shards} shards")
        self._key = development_key(settings.database_url, self._folder.development_key)

    def _start_programs(self) -> None:
        workers = [self._program(f"worker-{number}", "worker") for number in range(1, WORKERS + 1)]
        api = self._program("api", "api", "--grace", str(_GRACE_SECONDS))
        cron = self._program("cron", "cron")
        self._supervisor.adopt(*workers)
        self._supervisor.adopt(api, cron)
        for program in (*workers, api, cron):
            program.spawn()
            self._say(f"{program.name:<11} process {program.pid}")
        self._say(f"logs        {self._folder.logs}")

    def _program(self, name: str, *arguments: str) -> Program:
        # They are told where `lastro up` keeps its folder, so that they take no other running one for theirs.
        command = [*arguments, "--data", str(self._folder.path)]
        return Program(name, self._folder.logs / f"{name}.log", command, self._settings.environment())

    def _say(self, line: str) -> None:
        self._console.print(line)
        sys.stdout.flush()


def _settings(port: int | None, environment: Mapping[str, str]) -> Settings:
    given = {**environment, **_BROUGHT}
    if port is not None:
        given["LASTRO_PORT"] = str(port or free_port())
    return Settings.read(given)


@contextmanager
def _signals_raise_stop() -> Iterator[None]:
    """The first two signals raise `Stop` wherever we are; later ones change nothing."""
    heard = 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard <= 2:  # noqa: PLR2004 - to end, and to end at once
            raise Stop

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup would have it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lastro-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # PostgreSQL runs as somebody else, and has to get through
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
