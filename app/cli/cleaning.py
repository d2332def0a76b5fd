"""`lastro cleanup`."""

import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.refusals import Refusal
from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from app.cleaning import Cleaning
    from app.settings import Settings


@click.command(short_help="End what is due, drop what was settled long ago.")
@data_option
@click.option("--expired", is_flag=True, help="Only end what is due, and leave the old ones.")
@click.option("--count", is_flag=True, help="Only tell what there is to do.")
def cleanup(data: Path, expired: bool, count: bool) -> None:
    """End reservations that are due, and drop those from the listing that were settled long ago.

    Nothing is lost: the journal keeps all of them, and they are found by id, task and key for ever. The
    workers do the same every ten minutes.

    Exit codes: 0 it is done, 2 another clean-up runs, or a store is away.
    """
    if expired and count:
        raise click.UsageError("--count ends and drops nothing, so that --expired has no meaning beside it")
    settings = settings_of(data)
    click.echo(asyncio.run(_count(settings) if count else _clean(settings, whole=not expired)))


async def _count(settings: "Settings") -> str:
    async with _cleaning(settings) as cleaning:
        waiting = await cleaning.count()
    return f"{waiting.expired:,} reservations are due, {waiting.old:,} are old"


async def _clean(settings: "Settings", *, whole: bool) -> str:
    async with _cleaning(settings) as cleaning:
        cleaned = await cleaning.run(f"operator:{getpass.getuser()}", whole=whole)
    if cleaned is None:
        raise Refusal("Another clean-up runs: nothing was done.")
    seconds = cleaned.duration_ms / 1000
    return f"{cleaned.expired:,} reservations ended, {cleaned.old:,} old ones dropped, in {seconds:.1f} s"


@asynccontextmanager
async def _cleaning(settings: "Settings") -> "AsyncIterator[Cleaning]":
    from app import logs
    from app.ledger.errors import LedgerError
    from persistence.cleaning.command import cleaning

    logs.set_up("warning")  # what was done is printed
    try:
        async with cleaning(
            settings.database_url, settings.redis_url, days=settings.reservation_retention_days
        ) as its:
            yield its
    except LedgerError as error:
        why = error.facts.get("why", "")
        raise Refusal(f"The ledger does not answer ({error.word}: {why}). Begin again later.") from error
