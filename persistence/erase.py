"""Erases the personal text of an account that is closed: reasons, metadata, resource ids, and what providers
and other systems were told of it.

The entries stay, and with them every credit and the chain; they carry only the salted hashes of what is gone.
The order of the steps is the promise: nothing is called erased while Redis still shows it. Redis' stream has
to have been trimmed past the account's notes (the journal is fed from it after a loss, and they would come
back); reservations that ended within the day lose their text at once; then PostgreSQL lets go of the notes
and says so in the same transaction. Cut off anywhere, it may be begun again.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from asyncpg import Record
from redis.asyncio import Redis

from app.ledger.forgetting import StillOpen, account_in, forget, stream_begins
from persistence.admission import Barrier, past
from persistence.pool import Connection

REASON_MAX = 500
KEPT_SECONDS = 3600
CLOSED = "closed"


class EraseRefused(Exception):
    """Nothing was erased; the text says why, and when it can be."""


class Erased(NamedTuple):
    """`notes`: texts that are gone from PostgreSQL; `reservations`: those that Redis still had text of."""

    notes: int
    reservations: int


async def erase(
    connection: Connection,
    redis: Redis,
    account: str,
    *,
    by: str,
    reason: str,
    kept_seconds: int = KEPT_SECONDS,
    barrier: Barrier = past,
) -> Erased:
    """Erase what is personal of an account.

    Args:
        connection: Of a born ledger, outside any transaction.
        redis: Its Redis.
        account: Closed, in both stores; so it has no credits, no debt and no open reservation.
        by: Who erases, for the record.
        reason: 1 to 500 characters without anything personal: it stays.
        kept_seconds: How long the workers leave an entry in Redis' stream.
        barrier: `after look`, `after redis`, `after commit`; tests stop an erasure there.

    Raises:
        EraseRefused: The account is not closed, or its notes are not out of Redis' stream yet.
    """
    if not 1 <= len(reason.strip()) <= REASON_MAX:
        raise EraseRefused(f"Give a reason of 1 to {REASON_MAX} characters.")
    row = await _look(connection, redis, account, timedelta(seconds=kept_seconds))
    await barrier("after look")
    ended = [each["id"] for each in await connection.fetch(ENDED, account)]
    try:
        reservations = await forget(redis, row["shard"], ended)
    except StillOpen as error:
        raise EraseRefused(f"{error} The account is not over.") from error
    await barrier("after redis")
    async with connection.transaction():
        version = await connection.fetchval(LOCK, account)
        if version != row["version"]:
            raise EraseRefused(f"Something happened to {account} meanwhile. Try again.")
        notes = await connection.fetchval(ERASE, account, by, reason)
        await connection.execute(ERASE_ORPHANS, row["shard"], account)
        await connection.execute(ERASE_REPAIRS, account)
        await connection.execute(ERASE_TOLD, account)
        await connection.execute(ERASE_EVENTS, account)
        await connection.execute(ERASE_ACTIONS, account)
    await barrier("after commit")
    return Erased(notes, reservations)


ACCOUNT = """
SELECT shard, version, available, held, status,
  (SELECT count(*) FROM reservations r WHERE r.account = a.account AND status = 'pending') AS open,
  (SELECT max(seq) FROM journal j JOIN notes n USING (shard, seq) WHERE j.account = a.account) AS noted
FROM accounts a WHERE account = $1
"""

FENCED = "SELECT fence FROM shards WHERE shard = $1"

# Redis forgets those that ended a day ago; three are more than enough for clocks that differ.
ENDED = """
SELECT id::text AS id FROM reservations WHERE account = $1 AND settled_at > now() - interval '3 days'
"""

LOCK = "SELECT version FROM accounts WHERE account = $1 FOR UPDATE"

ERASE = """
WITH gone AS (
  DELETE FROM notes USING journal
  WHERE journal.account = $1 AND (notes.shard, notes.seq) = (journal.shard, journal.seq)
  RETURNING notes.shard, notes.seq
), noted AS (
  INSERT INTO erasures (shard, seq, by, reason) SELECT shard, seq, $2, $3 FROM gone
  ON CONFLICT (shard, seq) DO NOTHING
)
SELECT count(*) FROM gone
"""

# Entries that a Redis had beside the journal's history, kept by a restore.
ERASE_ORPHANS = """
UPDATE orphans SET notes = NULL
WHERE shard = $1 AND notes IS NOT NULL AND position('"account":"' || $2 || '"' IN entry) > 0
"""

# What Redis had of reservations when they were repaired, word for word.
ERASE_REPAIRS = """
UPDATE repairs SET before = before - 'reservations', after = (after #- '{account,reservations}') - 'wrong'
WHERE account = $1 AND side = 'redis'
"""

# What providers told of its jobs. That they did stays, so that they cannot tell it again.
ERASE_TOLD = "UPDATE webhook_inbox SET payload = NULL, reason = NULL, resource = NULL WHERE account = $1"

ERASE_EVENTS = "DELETE FROM events WHERE account = $1"

# Why operators did something by hand. That they did, who and when stays.
ERASE_ACTIONS = "UPDATE operator_actions SET reason = NULL WHERE account = $1"

WRITTEN_AT = "SELECT at FROM journal WHERE shard = $1 AND seq = $2"


async def _look(connection: Connection, redis: Redis, account: str, kept: timedelta) -> Record:
    """The account's row, once both stores say that it is closed and the stream has nothing of it."""
    row = await connection.fetchrow(ACCOUNT, account)
    if row is None:
        raise EraseRefused(f"The journal knows no account {account}.")
    shard = row["shard"]
    if fence := await connection.fetchval(FENCED, shard):
        raise EraseRefused(f"Shard {shard} of {account} is fenced: {fence}")
    if row["available"] or row["held"] or row["open"]:
        raise EraseRefused(
            f"{account} is not over: {row['available']} credits are available, {row['held']} held, "
            f"{row['open']} reservations open."
        )
    if row["status"] != CLOSED:
        raise EraseRefused(
            f"{account} is {row['status']}, and may go on at any moment. Close it first: "
            f'PATCH /api/credits/accounts/{account} {{"status": "closed"}}.'
        )
    stored = await account_in(redis, shard, account)
    if stored is None:
        raise EraseRefused(f"Redis does not have {account}. Run `lastro reconcile --account {account}`.")
    if stored.version != row["version"] or stored.status != CLOSED:
        raise EraseRefused(f"PostgreSQL does not have everything of {account} yet. Try again in a moment.")
    await _demand_out_of_stream(connection, redis, row, kept)
    return row


async def _demand_out_of_stream(connection: Connection, redis: Redis, row: Record, kept: timedelta) -> None:
    begins = await stream_begins(redis, row["shard"])
    if row["noted"] is None or begins is None or begins > row["noted"]:
        return
    at: datetime = await connection.fetchval(WRITTEN_AT, row["shard"], row["noted"])
    raise EraseRefused(
        f"Redis still has the last notes of the account, of {at:%Y-%m-%d %H:%M:%S} UTC, in the stream of "
        f"shard {row['shard']}. The workers leave them there for LASTRO_STREAM_KEEP_SECONDS: erase after "
        f"{at + kept:%Y-%m-%d %H:%M:%S} UTC."
    )
