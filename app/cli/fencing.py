"""`lastro fence`, `unfence` and `drain`: shards that refuse because somebody wants them to."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from app.cli.shared import data_option, exit_by, settings_of
from app.ledger.alike import alike, named, says

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from persistence.pool import Pool

_Result = TypeVar("_Result")

shard_option = click.option(
    "--shard", "shards", multiple=True, type=click.IntRange(0, 4095), help="May be repeated.  [default: all]"
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


class Stores(NamedTuple):
    """Both, and where they are."""

    redis_url: str
    database_url: str
    redis: "Redis"
    pool: "Pool"


@click.command(short_help="Make shards refuse.")
@data_option
@shard_option
@click.option("--reason", required=True, help="In words; whoever is refused is told.")
@yes_option
def fence(data: Path, shards: tuple[int, ...], reason: str, yes: bool) -> None:
    """Make shards refuse: their writes and balances answer 503 `ledger_fenced`, the others go on.

    Redis refuses at once, every process within two seconds. What was acknowledged is journaled on. `lastro
    unfence` opens again.
    """
    from persistence.fences import fence as put_up
    from persistence.fences import fences

    if not yes:
        which = named(sorted(set(shards))) if shards else "every shard"
        click.confirm(f"Make {which} refuse?", abort=True)

    async def work(stores: Stores) -> tuple[list[int], list[Any]]:
        return await put_up(stores.pool, stores.redis, shards or None, reason), await fences(stores.pool)

    new, all_of_them = _with_stores(data, work)
    if new:
        click.echo(f"{says(sorted(new), 'refuses', 'refuse')}; `lastro unfence` opens again")
    before = {
        each.shard: f"by {each.by}: {each.why}"
        for each in all_of_them
        if each.shard not in new and (not shards or each.shard in shards)
    }
    for those, why in alike(before):
        click.echo(f"{named(those)} refused already, {why}")


@click.command(short_help="Open fenced shards again.")
@data_option
@shard_option
@click.option("--reason", required=True, help="In words; it is repeated in the answer.")
@yes_option
def unfence(data: Path, shards: tuple[int, ...], reason: str, yes: bool) -> None:
    """Open fenced shards again, where this Redis goes on from where the journal stands.

    Each shard is judged anew; one that is merely behind the journal is rolled forward first. What cannot be
    served stays fenced and is named with what to do (exit code 1). Whichever Redis was served before is
    refused from then on.
    """
    from persistence.fences import unfence as take_down

    logging.getLogger("persistence").addHandler(logging.NullHandler())  # what it logs is told below
    if not yes:
        which_ones = named(sorted(set(shards))) if shards else "every shard"
        click.confirm(f"Open {which_ones} again, and serve from this Redis?", abort=True)

    async def work(stores: Stores) -> Any:
        return await take_down(stores.pool, stores.redis, shards or None, reason)

    opening = _with_stores(data, work)
    if opening.opened:
        click.echo(f"{says(sorted(opening.opened), 'is open', 'are open')}: {reason}")
    for which, why in alike(opening.stays):
        click.echo(f"{says(which, 'stays', 'stay')} fenced: {why}")
    if not opening.opened and not opening.stays:
        click.echo("nothing was fenced")
    exit_by(not opening.stays)


@click.command(short_help="Make all refuse until PostgreSQL has everything.")
@data_option
@click.option("--reason", default="planned work", show_default=True, help="Whoever is refused is told.")
@yes_option
def drain(data: Path, reason: str, yes: bool) -> None:
    """Make every shard refuse and wait until PostgreSQL has everything, so that Redis may be stopped.

    Needs no worker. Ctrl-C stops the waiting, not the fences; `lastro unfence` opens again. Exit code 1: a
    shard was fenced for another reason, and is not drained.
    """
    from persistence.planned import draining

    if not yes:
        click.confirm("Make every shard refuse until `lastro unfence`?", abort=True)

    async def work(stores: Stores) -> dict[int, str]:
        said = None
        stuck: dict[int, str] = {}
        async for left in draining(stores.database_url, stores.redis_url, stores.pool, stores.redis, reason):
            if left.entries != said:
                said, stuck = left.entries, left.stuck
                click.echo(f"{left.entries:,} entries to be journaled")
        return stuck

    stuck = _with_stores(data, work)
    for which, why in alike(stuck):
        click.echo(f"{says(which, 'is', 'are')} not drained: {why}")
    if not stuck:
        click.echo("PostgreSQL has everything: Redis may be stopped or moved. `lastro unfence` opens again.")
    exit_by(not stuck)


def _with_stores(data: Path, work: Callable[[Stores], Awaitable[_Result]]) -> _Result:
    """The result of `work` over both stores."""
    from app.ledger.connection import connect
    from persistence.pool import open_pool

    settings = settings_of(data)

    async def run() -> _Result:
        redis = connect(settings.redis_url)  # which may be away when a fence is wanted most
        try:
            async with await open_pool(settings.database_url, connections_max=2, name="lastro fence") as pool:
                return await work(Stores(settings.redis_url, settings.database_url, redis, pool))
        finally:
            await redis.aclose()

    return asyncio.run(run())
