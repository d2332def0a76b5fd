"""`lastro keys`."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from app.cli.shared import data_option, settings_of

_SCOPES = ("spend", "grant", "read", "operate")  # app.access.SCOPES in the order of the documentation


@click.group()
def keys() -> None:
    """API keys: create, list, revoke."""


WIDTH = 200
"""Wider than most terminals: a prefix that was cut could not be used to revoke."""


@keys.command("create")
@data_option
@click.option("--name", required=True, help="Named in the journal as `key:<name>`. Letters, digits, . _ -")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(_SCOPES), help="May be repeated."
)
@click.option("--account", help="The only account that it may touch.")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"]),
    metavar="DATE",
    help="When it ends (a date: 0:00 UTC).",
)
def create_key(
    data: Path, name: str, scopes: tuple[str, ...], account: str | None, expires: datetime | None
) -> None:
    """Make a key and show it, once: only its hash is kept.

    \b
    spend    deduct, reserve, confirm, cancel, extend, name tasks, quote; includes read
    grant    grant, refund
    read     balances, statements, reservations, transactions, accounts, the rate card, monitoring, metrics
    operate  the dashboard, adjust, settings of accounts, prices, reconciliation, webhooks, events,
             clean-up, alerts; includes read

    A batch needs for each of its operations what that one needs alone.
    """  # noqa: D301
    from persistence.api_keys import create

    click.echo(
        _with_pool(
            data, lambda pool: create(pool, name, scopes, account=account, expires_at=_in_utc(expires))
        )
    )


@keys.command("list")
@data_option
@click.option("--revoked", is_flag=True, help="Also those that were revoked.")
def list_keys(data: Path, revoked: bool) -> None:
    """Show the keys, oldest first, without anything secret."""
    from rich.console import Console
    from rich.table import Table

    from persistence.api_keys import listed

    columns = ["name", "prefix", "scopes", "account", "created", "expires", "last used"]
    table = Table(*columns, *["revoked"] * revoked, box=None)
    for key in _with_pool(data, lambda pool: listed(pool, revoked=revoked)):
        times = [key.created_at, key.expires_at, key.last_used_at, *[key.revoked_at] * revoked]
        shown = [f"{time:%Y-%m-%d}" if time else "-" for time in times]
        table.add_row(key.name, f"lk_{key.prefix}_", ",".join(key.scopes), key.account or "all", *shown)
    Console(width=WIDTH).print(table)


@keys.command("revoke")
@data_option
@click.argument("key")
def revoke_key(data: Path, key: str) -> None:
    """Revoke KEY: its name, prefix or id. No process takes it any more after 5 seconds."""
    from persistence.api_keys import revoke

    for name in _with_pool(data, lambda pool: revoke(pool, key)):
        click.echo(f"revoked {name}")


def _with_pool(data: Path, work: Callable[[Any], Any]) -> Any:
    """The result of `await work(pool)`."""
    from persistence.pool import open_pool

    settings = settings_of(data)

    async def run() -> Any:
        async with await open_pool(settings.database_url, connections_max=1, name="lastro keys") as pool:
            return await work(pool)

    return asyncio.run(run())


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time
