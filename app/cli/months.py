"""`lastro months`: what the journal has, month by month, and on which disk."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.progress import counting
from app.cli.refusals import Refusal
from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from app.cli.progress import Counter
    from persistence.archiving import Moved, Unfinished
    from persistence.calendar import Month

_data = click.option(
    "--data",
    "own_data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a running `lastro up`; may stand before the command, too.",
)
_names = click.argument("names", nargs=-1, metavar="[MONTH]...")


@click.group(
    short_help="What the journal has, month by month, and on which disk.", invoke_without_command=True
)
@data_option
@click.option(
    "--backup",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE",
    help="A backup (file or folder of `lastro export`): also tell which months it has whole.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON, a line for each month.")
@click.pass_context
def months(context: click.Context, data: Path, backup: Path | None, as_json: bool) -> None:
    """Tell what the journal has: a table for each month (UTC), its rows, its size on disk with indexes, and
    the tablespace of those that are not on the database's own disk.

    \b
    lastro months
    lastro export backups/journal --folder
    lastro months --backup backups/journal   which months that backup has whole
    lastro months archive --over 12 --tablespace cold

    Without a command it only reads, and looks at the ends of each month: quick however long the journal is.
    What a backup has is told by its manifest; a month that is not over is never whole in one. `lastro drill`
    proves the backup itself.
    """  # noqa: D301 - \b is for click: it keeps the lines as they are
    if context.invoked_subcommand is not None:
        if backup is not None or as_json:
            raise click.UsageError("--backup and --json are for `lastro months` without a command.")
        context.obj = data
        return
    import msgspec

    from persistence.archiving import unfinished
    from persistence.backup.reading import Backup
    from persistence.calendar import months as look
    from persistence.session import connect

    settings = settings_of(data)
    manifest = Backup(backup).manifest if backup else None

    async def run() -> "tuple[list[Month], list[Unfinished]]":
        connection = await connect(settings.database_url, name="lastro months")
        try:
            return await look(connection, manifest), await unfinished(connection)
        finally:
            await connection.close()

    found, begun = asyncio.run(run())
    if as_json:
        for month in found:
            click.echo(msgspec.json.encode(month))
    else:
        _tell(found)
    for each in begun:
        says = f"{each.name}: {each.bytes / 2**20:,.1f} MiB, a copy that is not finished"
        click.echo(says, err=True)


def _tell(found: "list[Month]") -> None:
    wide = max((len(each.name) for each in found), default=0)
    for each in found:
        kept = {None: "", True: "  in the backup", False: "  not whole in the backup"}[each.kept]
        away = f"  on {each.tablespace}" if each.is_away else ""
        click.echo(
            f"{each.name:<{wide}}  {each.since:%Y-%m-%d} to {each.until:%Y-%m-%d}  "
            f"{each.rows:>15,} rows  {each.bytes / 2**20:>10,.1f} MiB{away}{kept}"
        )
    rows, size = sum(each.rows for each in found), sum(each.bytes for each in found)
    click.echo(f"{rows:,} rows in {len(found)} tables, {size / 2**20:,.1f} MiB")


@months.command(short_help="Put old months on another disk.")
@_names
@_data
@click.option(
    "--over",
    "over_for_months",
    type=click.IntRange(1),
    metavar="MONTHS",
    help="All months that ended at least this many months ago, instead of names.",
)
@click.option(
    "--tablespace", required=True, help="PostgreSQL's name of the disk (CREATE TABLESPACE makes one)."
)
@click.pass_obj
def archive(
    data: Path, names: tuple[str, ...], own_data: Path | None, over_for_months: int | None, tablespace: str
) -> None:
    """Put months that are over on another disk, a cheaper one perhaps: in a tablespace of PostgreSQL.

    \b
    lastro months archive journal_2025_01 journal_2025_02 --tablespace cold
    lastro months archive --over 12 --tablespace cold      by cron, every night: what is there already is left

    Each month is copied, the copy is proved by its hash chain, and then it takes the place of the old table.
    That reads no rows, and waits for whoever reads the journal. The month stays a part of the journal: keys,
    replays, history, proofs and backups are as before. While it runs, both disks hold the month. If it is
    killed, run it again: it goes on where it was.
    """  # noqa: D301 - \b is for click: it keeps the lines as they are
    if bool(names) == (over_for_months is not None):
        raise click.UsageError("Name months (`lastro months` tells which there are), or give --over.")
    _move(own_data or data, names, over_for_months, tablespace)


@months.command(short_help="Bring archived months back.")
@_names
@_data
@click.pass_obj
def recall(data: Path, names: tuple[str, ...], own_data: Path | None) -> None:
    """Bring months back to the database's own disk, just as they went: copied, proved, put in place."""
    if not names:
        raise click.UsageError("Name months: `lastro months` tells which are elsewhere.")
    _move(own_data or data, names, None, None)


def _move(data: Path, names: Sequence[str], over_for_months: int | None, tablespace: str | None) -> None:
    from persistence.archiving import ArchiveRefused, chosen, is_in, move, tablespace_for
    from persistence.session import connect

    settings = settings_of(data)

    async def run(counter: "Counter") -> int:
        connection = await connect(settings.database_url, name="lastro months")
        try:
            place = await tablespace_for(connection, tablespace)
            found = await chosen(connection, names, over_for_months)
            wanted = [each for each in found if not await is_in(connection, each.name, place)]
            counter.expect(2 * sum(each.rows for each in wanted))
            for each in found:
                try:
                    _tell_moved(await move(connection, each.name, place, seen=counter.add))
                except ArchiveRefused as error:  # the others go all the same
                    refused.append(str(error))
            return len(found)
        finally:
            await connection.close()

    refused: list[str] = []
    with counting("rows copied, and rows proved") as counter:
        if not asyncio.run(run(counter)):
            click.echo(f"No month ended {over_for_months} months ago or earlier: nothing to put away.")
    if refused:
        raise Refusal("\n".join(refused))


def _tell_moved(each: "Moved") -> None:
    if not each.is_copied:
        click.echo(f"{each.name} is on {each.after} already")
        return
    click.echo(
        f"{each.name}: {each.rows:,} rows from {each.before} to {each.after}, "
        f"{each.bytes_before / 2**20:,.1f} MiB before, {each.bytes_after / 2**20:,.1f} MiB now"
    )
