"""`lastro erase`: the personal text of an account that is closed."""

import asyncio
import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from app.settings import Settings
    from persistence.erase import Erased


@click.command(short_help="Erase a closed account's personal text.")
@data_option
@click.option("--account", required=True, help="A closed one.")
@click.option("--reason", required=True, help="Why. It stays, so nothing personal.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(data: Path, account: str, reason: str, yes: bool) -> None:
    """Erase reasons, metadata and resource ids of an account that is closed. It cannot be taken back.

    Entries and credits stay, and `lastro verify` says erased, not changed. Backups that were taken before
    still have the text: remove them. Refused while the account is not closed (PATCH
    /api/credits/accounts/ID), and while Redis' stream still has the text (LASTRO_STREAM_KEEP_SECONDS).
    """
    settings = settings_of(data)
    if not yes:
        click.confirm(f"Erase the personal text of {account} for good?", abort=True)
    erased = asyncio.run(_erase(settings, account, reason))
    click.echo(
        f"{erased.notes:,} notes of {account} are erased, {erased.reservations:,} reservations in Redis"
    )


async def _erase(settings: "Settings", account: str, reason: str) -> "Erased":
    from app.ledger.connection import connect as connect_redis
    from persistence.erase import erase as let_go
    from persistence.session import connect

    connection = await connect(settings.database_url, name="lastro erase")
    try:
        async with connect_redis(settings.redis_url) as redis:
            return await let_go(
                connection,
                redis,
                account,
                by=getpass.getuser(),
                reason=reason,
                kept_seconds=settings.stream_keep_seconds,
            )
    finally:
        await connection.close()
