"""`lastro months`: what the journal has, month by month."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from persistence.calendar import Month


@click.command(short_help="What the journal has, month by month.")
@data_option
@click.option(
    "--backup",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE",
    help="A backup (file or folder of `lastro export`): tells which months it has whole.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON, a line for each month.")
def months(data: Path, backup: Path | None, as_json: bool) -> None:
    """Tell what the journal has: a table for each month (UTC), its rows, and its size on disk with indexes.

    \b
    lastro months
    lastro export backups/journal --folder
    lastro months --backup backups/journal   which months that backup has whole

    Only reads, and looks at the ends of each month: quick however long the journal is. What a backup has
    is told by its manifest; `lastro drill` proves the backup itself.
    """  # noqa: D301 - \b is for click: it keeps the lines as they are
    import msgspec

    from persistence.backup.reading import Backup
    from persistence.calendar import months as look
    from persistence.session import connect

    settings = settings_of(data)
    manifest = Backup(backup).manifest if backup else None

    async def run() -> "list[Month]":
        connection = await connect(settings.database_url, name="lastro months")
        try:
            return await look(connection, manifest)
        finally:
            await connection.close()

    found = asyncio.run(run())
    if as_json:
        for each in found:
            click.echo(msgspec.json.encode(each))
    else:
        _tell(found)


def _tell(found: "list[Month]") -> None:
    wide = max((len(each.name) for each in found), default=0)
    for each in found:
        kept = {None: "", True: "  in the backup", False: "  not whole in the backup"}[each.kept]
        click.echo(
            f"{each.name:<{wide}}  {each.since:%Y-%m-%d} to {each.until:%Y-%m-%d}  "
            f"{each.rows:>15,} rows  {each.bytes / 2**20:>10,.1f} MiB{kept}"
        )
    rows, size = sum(each.rows for each in found), sum(each.bytes for each in found)
    click.echo(f"{rows:,} rows in {len(found)} tables, {size / 2**20:,.1f} MiB")
