"""A slice of reconciliation, as a worker's job makes it: some seconds of whatever run there is."""

from app.ledger.stream import Keep
from persistence.reconcile.tools import tools
from persistence.reconcile.work import EVERY_SECONDS, SLICE_SECONDS, next_run, work_on, working


async def reconcile_slice(
    database_url: str,
    redis_url: str,
    *,
    keep: Keep | None,
    seconds: float = SLICE_SECONDS,
    every_seconds: float = EVERY_SECONDS,
) -> str | None:
    """Go on with a run that somebody asked for, or with a new one when it is time. Returns its id, `None`
    when there was nothing to do, or another process does it.

    Args:
        database_url: Of a born ledger.
        redis_url: The ledger's.
        keep: What stays in the streams, as for the journal.
        seconds: About how long; a page that is under way then is finished.
        every_seconds: How long after the start of a run the next one begins by itself.
    """
    async with working(database_url) as connection:
        if connection is None:
            return None
        name = await next_run(connection, every_seconds=every_seconds)
        if name is None:
            return None
        async with tools(database_url, redis_url, connection, keep=keep) as its:
            await work_on(connection, its.redis, name, its.hands, seconds)
        return name
