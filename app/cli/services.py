"""The parts of a ledger, each a command of its own. Each imports what it needs when it runs."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app import collector
from app.cli.shared import data_option, exit_by, log, settings_of

if TYPE_CHECKING:
    from app.settings import Settings
    from persistence.backup.scheduled import Plan

THREADS = 64


@click.command(short_help="Bring PostgreSQL to this release; found the ledger.")
@data_option
def migrate(data: Path) -> None:
    """Bring PostgreSQL to this release, and found the ledger where both stores are empty.

    Repeating it changes nothing. A ledger that was born once is never born again: if its Redis has lost
    everything this says so, and changes nothing.
    """
    from persistence.birth import give_birth
    from persistence.migrate import migrate as bring_up_to_date

    settings = settings_of(data)
    asyncio.run(bring_up_to_date(settings.database_url))
    ledger = asyncio.run(give_birth(settings.database_url, settings.redis_url, settings.shards))
    click.echo(f"ledger {ledger}, {settings.shards} shards")


@click.command()
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

    from app.http.protocol import BoundedProtocol
    from app.main import create_app

    settings = settings_of(data, LASTRO_HOST=host, LASTRO_PORT=port)
    log(settings)
    look_up_names_beside_each_other()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace,
        )
    )
    collector.spare()
    server.run()


@click.command(short_help="Journal entries, and do what cron asks for.")
@data_option
@click.option("--alive", is_flag=True, help="Only tell whether any worker is at work (exit code 0 or 1).")
def worker(data: Path, alive: bool) -> None:
    """Carry entries from Redis into PostgreSQL, and do what cron asks for. Run two: one is a hot spare."""
    from persistence import alive as at_work
    from persistence.alerts.watched import Watched
    from persistence.told import Work
    from persistence.work import run_worker

    settings = settings_of(data)
    if alive:
        exit_by(at_work.workers(settings.queue_url) > 0)
    log(settings)
    look_up_names_beside_each_other()
    collector.spare()
    run_worker(
        Work(
            redis_url=settings.redis_url,
            queue_url=settings.queue_url,
            database_url=settings.database_url,
            stream_keep_seconds=settings.stream_keep_seconds,
            stream_keep_bytes=settings.stream_keep_bytes,
            retention_days=settings.reservation_retention_days,
            cleanup_seconds=settings.cleanup_interval_seconds,
            backups=_plan(settings),
            poll_keys=_poll_keys(settings),
            webhook_units=settings.webhook_units,
            webhook_takes_back=settings.webhook_stripe_clawback == "on",
            events_to_private=settings.events_to_private_addresses == "yes",
        ),
        Watched.of(settings).by_worker(at_work.RedisQueues(settings.queue_url)),
    )


def look_up_names_beside_each_other() -> None:
    """Before the event loop begins.

    A name whose servers are silent keeps a thread of libuv for half a minute. There would be four, and two
    for names: while those of two providers are looked up in vain, nobody finds PostgreSQL either.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(THREADS))


def _poll_keys(settings: "Settings") -> dict[str, str]:
    """The keys of the providers that are asked."""
    keys = {
        "bfl": settings.poll_bfl_key,
        "luma": settings.poll_luma_key,
        "runway": settings.poll_runway_key,
        "sync": settings.poll_sync_key,
    }
    return {provider: key for provider, key in keys.items() if key}


def _plan(settings: "Settings") -> "Plan | None":
    """How backups are taken; `None`: they are not."""
    from persistence.backup.scheduled import Plan

    if not settings.backup_dir:
        return None
    return Plan(Path(settings.backup_dir).absolute(), settings.backup_keep, settings.backup_seconds)


@click.command(short_help="Ask the workers for what is due.")
@data_option
@click.option("--alive", is_flag=True, help="Only tell whether any cron is at work (exit code 0 or 1).")
def cron(data: Path, alive: bool) -> None:
    """Ask the workers for what is due: the journal, the sweep of what ran out of time. Two do no harm."""
    from persistence import alive as at_work
    from persistence.schedule import run_cron

    settings = settings_of(data)
    if alive:
        exit_by(at_work.cron(settings.queue_url))
    log(settings)
    run_cron(settings.queue_url)
