"""`lastro`: every command. Each imports what it needs when it runs, so that `--help` is quick."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from app.refusals import Commands, Refusal
from app.settings import Settings

_SCOPES = ("spend", "grant", "read", "operate")  # app.access.SCOPES in the order of the documentation


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data`: where a running `lastro up` tells other commands how to reach it."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".lastro"),
        show_default=True,
        help="Folder of a running `lastro up`. LASTRO_* variables win over what it says.",
    )(command)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lastro")
def cli() -> None:
    """The ledger of prepaid credits.

    \b
    lastro up                  a whole ledger on this machine, to try things out
    lastro demo                a shop that uses it, played before your eyes
    lastro keys create ...     an API key for your own program

    In production each part runs by itself: `migrate` once, then `api`, `worker` and `cron`, with
    LASTRO_REDIS_URL and LASTRO_DATABASE_URL in the environment (docker-compose.yml shows it; the README
    lists all settings).

    Exit codes: 0 good, 1 something was found, 2 could not tell or was refused.
    """  # noqa: D301 - \b is for click: it keeps the lines as they are


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Of the API (0: any free one).  [default: 8000]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".lastro"),
    show_default=True,
    help="Folder that keeps everything; resumed when it is there.",
)
@click.option(
    "--ephemeral", is_flag=True, help="Keep nothing: use a temporary folder and remove it at the end."
)
def up(port: int | None, data: Path, ephemeral: bool) -> None:
    """Run a whole ledger here: Valkey, PostgreSQL, API, workers, cron.

    Prints `ready` with the address, and an API key with all scopes, as soon as it can be used. Ctrl-C ends
    it in order; what dies is started again. Valkey keeps every acknowledged write (`appendfsync always`).
    """
    if (
        ephemeral
        and click.get_current_context().get_parameter_source("data") != click.core.ParameterSource.DEFAULT
    ):
        raise click.UsageError("--ephemeral keeps nothing, so that --data has no meaning beside it")
    try:
        from app.up.command import run
    except ModuleNotFoundError as error:
        raise Refusal(f"{error}; `lastro up` needs lastro[embedded]") from error

    run(data, port=port, ephemeral=ephemeral)


@cli.command()
@data_option
@click.option("--host", help="Where to listen, instead of LASTRO_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen, instead of LASTRO_PORT.")
@click.option(
    "--grace",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Seconds for open requests at the end.",
)
def api(data: Path, host: str | None, port: int | None, grace: int) -> None:
    """Serve the HTTP API. Starts, and answers 503, also while Redis or PostgreSQL are away."""
    import uvicorn

    from app.main import create_app

    settings = _settings(data, LASTRO_HOST=host, LASTRO_PORT=port)
    _log(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=grace,
        )
    )
    server.run()


@cli.command()
@data_option
def migrate(data: Path) -> None:
    """Bring PostgreSQL to this release, and found the ledger where both stores are empty.

    Repeating it changes nothing. A ledger that was born once is never born again: if its Redis has lost
    everything this says so, and changes nothing.
    """
    from persistence.birth import give_birth
    from persistence.migrate import migrate as bring_up_to_date

    settings = _settings(data)
    asyncio.run(bring_up_to_date(settings.database_url))
    ledger = asyncio.run(give_birth(settings.database_url, settings.redis_url, settings.shards))
    click.echo(f"ledger {ledger}, {settings.shards} shards")


@cli.command()
@data_option
@click.option("--alive", is_flag=True, help="Only tell whether any worker is at work (exit code 0 or 1).")
def worker(data: Path, alive: bool) -> None:
    """Carry entries from Redis into PostgreSQL, and do what cron asks for. Run two: one is a hot spare."""
    from persistence import alive as at_work
    from persistence.work import run_worker
    from persistence.workbench import Work

    settings = _settings(data)
    if alive:
        _exit_by(at_work.workers(settings.queue_url) > 0)
    _log(settings)
    run_worker(
        Work(
            redis_url=settings.redis_url,
            queue_url=settings.queue_url,
            database_url=settings.database_url,
            stream_keep_seconds=settings.stream_keep_seconds,
            stream_keep_bytes=settings.stream_keep_bytes,
        )
    )


@cli.command()
@data_option
@click.option("--alive", is_flag=True, help="Only tell whether any cron is at work (exit code 0 or 1).")
def cron(data: Path, alive: bool) -> None:
    """Ask the workers for what is due: the journal, the sweep of what ran out of time. Two do no harm."""
    from persistence import alive as at_work
    from persistence.schedule import run_cron

    settings = _settings(data)
    if alive:
        _exit_by(at_work.cron(settings.queue_url))
    _log(settings)
    run_cron(settings.queue_url)


@cli.group()
def keys() -> None:
    """API keys: create, list, revoke."""


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
    spend    deduct, reserve, confirm, cancel; includes read
    grant    grant
    read     balances, reservations, transactions
    operate  adjust and all that is for operators; includes read
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

    table = Table(
        "name", "prefix", "scopes", "account", "created", "expires", "last used", "revoked", box=None
    )
    for key in _with_pool(data, lambda pool: listed(pool, revoked=revoked)):
        times = (key.created_at, key.expires_at, key.last_used_at, key.revoked_at)
        shown = [f"{time:%Y-%m-%d %H:%M}" if time else "-" for time in times]
        table.add_row(key.name, f"lk_{key.prefix}_", " ".join(key.scopes), key.account or "all", *shown)
    Console(soft_wrap=True).print(table)


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

    settings = _settings(data)

    async def run() -> Any:
        async with await open_pool(settings.database_url, connections_max=1, name="lastro keys") as pool:
            return await work(pool)

    return asyncio.run(run())


def _settings(data: Path, **options: object) -> Settings:
    """LASTRO_* of the environment, else of the `lastro up` that runs in `data`; options win over both."""
    from app.up.data import read_environment

    given = {name: str(value) for name, value in options.items() if value is not None}
    return Settings.read({**read_environment(data), **os.environ, **given})


def _exit_by(good: bool) -> NoReturn:
    click.get_current_context().exit(0 if good else 1)


def _log(settings: Settings) -> None:
    from app import logs

    logs.set_up(settings.log_level)


def _in_utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def main() -> None:
    """The entry point."""
    cli(prog_name="lastro")


if __name__ == "__main__":
    main()
