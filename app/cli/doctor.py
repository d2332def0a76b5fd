"""`lastro doctor`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from app.ledger.findings import Finding
    from app.settings import Settings

_STYLES = {"ok": "green", "warning": "yellow", "critical": "red", "unknown": "magenta"}


@click.command(short_help="Say what is wrong, and what to do.")
@data_option
@click.option("--json", "as_json", is_flag=True, help="For programs: check, level, says, do of each line.")
def doctor(data: Path, as_json: bool) -> None:
    """Look at both stores, the queues and the ledger between them, and say what to do.

    Each line is ok, warning, critical, or unknown where it could not be told. Changes nothing.

    Exit codes: 0 all is well, 1 a warning or something critical, 2 something could not be told.
    """
    findings = asyncio.run(_examine(settings_of(data)))
    if as_json:
        _print_json(findings)
    else:
        _print_lines(findings)
    levels = {each.level for each in findings}
    click.get_current_context().exit(2 if "unknown" in levels else int(bool(levels - {"ok"})))


async def _examine(settings: "Settings") -> "list[Finding]":
    from app.ledger.connection import connect
    from persistence.doctor import Bounds, examine
    from persistence.pool import open_pool

    bounds = Bounds(
        acknowledgement=settings.acknowledgement,
        backlog_max=settings.backlog_max,
        backlog_bytes_max=settings.backlog_bytes_max,
        backup_seconds=settings.backup_seconds,
    )
    redis = connect(settings.redis_url)  # which may be away
    try:
        async with await open_pool(settings.database_url, connections_max=1, name="lastro doctor") as pool:
            return await examine(pool, redis, settings.queue_url, bounds)
    finally:
        await redis.aclose()


def _print_json(findings: "list[Finding]") -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode([each._asdict() for each in findings]), indent=2))


def _print_lines(findings: "list[Finding]") -> None:
    width = max(len(each.check) for each in findings)
    for each in findings:
        level = click.style(f"{each.level:<8}", fg=_STYLES[each.level])
        click.echo(f"{level}  {each.check:<{width}}  {each.says}")
        if each.do:
            click.echo(f"{'':8}  {'':{width}}  -> {each.do}")
