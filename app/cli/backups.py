"""`lastro export`, `import` and `drill`: the journal out of a ledger, into a fresh one, the proof of both."""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.ending import Ending, ended_in_order
from app.cli.progress import Counter, counting
from app.cli.refusals import Refusal
from app.cli.shared import data_option, exit_by, settings_of

if TYPE_CHECKING:
    from app.settings import Settings
    from persistence.backup.manifest import Manifest
    from persistence.backup.reading import Backup


@click.command(short_help="Back the whole journal up.")
@data_option
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--folder", is_flag=True, help="FILE is a folder with a file for each day; days kept stay.")
def export(data: Path, path: Path, folder: bool) -> None:
    """Back the whole journal up into FILE, as it is at this moment.

    One compressed file of JSON lines (`zcat` shows it), or a folder of them that a later export brings up to
    date. It is proved while it is written. Cut off anywhere, the same command goes on.
    """
    from persistence.backup.export import export as to_file
    from persistence.backup.folder import export_folder
    from persistence.session import connect

    settings = settings_of(data)

    async def run(counter: Counter) -> "Manifest":
        connection = await connect(settings.database_url, name="lastro export")
        try:
            work = export_folder if folder else to_file
            return await work(connection, path, expect=counter.expect, seen=counter.add)
        finally:
            await connection.close()

    with counting("rows written") as counter:
        manifest = asyncio.run(run(counter))
    click.echo(f"ledger {manifest.ledger}: {manifest.entries:,} entries in {path}")


@click.command("import", short_help="Bring a backup, or opening balances, in.")
@data_option
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--balances",
    "files",
    multiple=True,  # so that a second one is refused, not taken instead of the first
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.csv",
    help="Opening balances from elsewhere, granted to a ledger that runs: account,bucket,amount and, where "
    "wanted, priority,expires. The same file may be brought again: nothing is granted twice.",
)
def import_(data: Path, path: Path | None, files: tuple[Path, ...]) -> None:
    """Bring a backup (FILE, of `lastro export`) into a fresh ledger, which then is that of the backup.

    Fresh: an empty database and an empty Redis, or a ledger in which no credits were ever moved. The backup
    is checked as a whole first. Cut off anywhere, the same command goes on. In the end Redis is loaded, as by
    `lastro restore`, and the ledger serves.
    """
    if len(files) > 1:
        raise click.UsageError("--balances takes one file; bring several one after another.")
    if (path is None) == (not files):
        raise click.UsageError("Name a backup, or opening balances with --balances: one of the two.")
    settings = settings_of(data)
    for balances in files:
        _open_balances(settings, balances)
    assert path is not None
    backup = _checked(path)
    with counting("rows imported") as counter:
        counter.expect(backup.manifest.entries)
        asyncio.run(_import(settings, backup, counter))
    manifest = backup.manifest
    click.echo(f"ledger {manifest.ledger}: {manifest.entries:,} entries are in PostgreSQL")
    if len(manifest.shards) != settings.shards:
        click.echo(f"From now on set LASTRO_SHARDS={len(manifest.shards)}: this ledger has so many.")
    _load(settings)


def _checked(path: Path) -> "Backup":
    from persistence.backup.reading import Backup

    backup = Backup(path)
    with counting("rows checked") as counter:
        counter.expect(backup.manifest.entries)
        backup.check(counter.add)
    return backup


async def _import(settings: "Settings", backup: "Backup", counter: Counter) -> None:
    from app.ledger.connection import connect as connect_redis
    from persistence.backup.importing import import_backup
    from persistence.migrate import migrate
    from persistence.session import connect

    await migrate(settings.database_url)
    connection = await connect(settings.database_url, name="lastro import")
    try:
        async with connect_redis(settings.redis_url) as redis:
            await import_backup(connection, redis, backup, seen=counter.add)
    finally:
        await connection.close()


def _load(settings: "Settings") -> None:
    """Bring Redis to the journal that was imported, and end by what came of it."""
    from persistence.backup.drill import Willing, faults
    from persistence.restore import restore

    salvage = Path(f"lastro-salvage-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    with counting("accounts and open reservations loaded into Redis") as counter:
        restored = asyncio.run(
            restore(settings.database_url, settings.redis_url, salvage=salvage, watch=Willing(counter.add))
        )
    found = faults(restored)
    for each in found:
        click.echo(each)
    if not found:
        click.echo("Redis has everything, and the ledger serves.")
    exit_by(not found)


def _open_balances(settings: "Settings", path: Path) -> None:
    from persistence.backup.balances import open_balances

    with counting("balances granted") as counter:
        opened = asyncio.run(
            open_balances(
                settings.database_url, settings.redis_url, path, expect=counter.expect, seen=counter.add
            )
        )
    for line, why in opened.bad:
        click.echo(f"line {line}: {why}")
    if opened.bad and not opened.begun:
        raise Refusal(f"{len(opened.bad)} of the lines cannot be granted; nothing was.")
    click.echo(
        f"{opened.granted:,} granted, {opened.there:,} had been granted before, "
        f"{opened.empty:,} skipped (amount 0)"
    )
    exit_by(not opened.bad)


@click.command(short_help="Prove that a backup can be brought back.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True))
def drill(path: Path) -> None:
    """Prove that a backup (FILE, of `lastro export`) can be brought back, on servers of its own.

    Starts a PostgreSQL and a Valkey in a temporary folder, imports, verifies, restores and reconciles, tells
    the times, and removes everything. Touches no other ledger.

    Exit codes: 0 it can, 1 something was found, 2 it is no good or the drill could not be made.
    """
    from persistence.backup.drill import drill as rehearse
    from persistence.backup.reading import Backup

    backup = Backup(path)
    times = _Times()
    with ended_in_order() as ending, _servers(ending) as (database_url, redis_url):

        def seen(count: int) -> None:
            ending.give_up()
            times.add(count)

        try:
            found = ending.run(rehearse(database_url, redis_url, backup, step=times.step, seen=seen))
        finally:
            times.end()
    for each in found:
        click.echo(each)
    if not found:
        manifest = backup.manifest
        click.echo(f"ledger {manifest.ledger} of {manifest.taken_at:%Y-%m-%d %H:%M} UTC comes back whole")
    exit_by(not found)


class _Times:
    """Tells what each step has done, and how long it took."""

    def __init__(self) -> None:
        self._name = ""
        self._done = 0
        self._begun = 0.0

    def step(self, name: str) -> None:
        self.end()
        self._name, self._done, self._begun = name, 0, time.monotonic()

    def add(self, count: int) -> None:
        self._done += count

    def end(self) -> None:
        if self._name:
            seconds = time.monotonic() - self._begun
            rate = self._done / max(seconds, 0.001)
            click.echo(f"{self._name:<10} {self._done:>12,} in {seconds:8.1f} s ({rate:,.0f}/s)")
        self._name = ""


@contextmanager
def _servers(ending: Ending) -> Iterator[tuple[str, str]]:
    """A PostgreSQL and a Valkey that are gone afterwards; their addresses."""
    try:
        from app.embedded import Postgres, Valkey
    except ModuleNotFoundError as error:
        raise Refusal(f"{error}; `lastro drill` needs lastro[embedded]") from error

    with tempfile.TemporaryDirectory(prefix="lastro-drill-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as somebody else when we are root, and has to get through
        password = secrets.token_urlsafe(16)
        postgres = Postgres(folder / "postgres", folder / "postgres.log", password=password, durable=False)
        valkey = Valkey(folder / "valkey", folder / "valkey.log", password=password, appendfsync="no")
        try:
            for server in (postgres, valkey):
                server.start()
                ending.leave()
            yield postgres.url, valkey.url
        finally:
            valkey.kill()
            postgres.stop()  # a killed one would leave shared memory behind
