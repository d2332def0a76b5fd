"""What stands in the inbox and is not settled is tried again; what is too old goes. A job of the workers.

A delivery may come before its task is bound, and whoever acts on one may die. Which rows can be acted on now
is asked of the journal's own tables, all at once: those of somebody else's tasks cost a look into an index.
"""

import logging
import time

from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerError, LedgerFenced, Unavailable
from app.ledger.ledger import Ledger
from app.webhooks.inbox import KEPT_DAYS, WAITING_HOURS, Granted, Received
from app.webhooks.receiving import Rules, act
from persistence.binding import binds
from persistence.inbox import rows
from persistence.pool import Pool, answering

LOOKED_MAX = 20_000
"""Rows that one question looks at, of those that are not settled."""

ABANDONED_SECONDS = 10
"""After which whoever received a row and has not settled it has died, or has no answer of the ledger."""

GONE_MAX = 1_000
_ID_MAX = 2**63 - 1

log = logging.getLogger(__name__)


class Position:
    """Where a slice had to stop for want of time: the next one goes on there. One for each process."""

    def __init__(self) -> None:
        self.before = _ID_MAX


async def retry_slice(
    pool: Pool, ledger: Ledger, rules: Rules, seconds: float, position: Position | None = None
) -> int:
    """Act on what can be acted on, for about so long. Returns how many rows were settled.

    Raises:
        BackingUnavailable, Unavailable: PostgreSQL or the ledger is away; nothing is lost by that.
    """
    ends, settled = time.monotonic() + seconds, 0
    position = position or Position()
    while time.monotonic() < ends:
        ready, behind = await _ready(pool, position.before)
        for row in ready:
            if time.monotonic() > ends:
                break
            position.before = row
            settled += await _try_again(pool, ledger, rules, row)
        else:
            position.before = behind or _ID_MAX
        if position.before == _ID_MAX:
            break
    await _give_up(pool)
    while time.monotonic() < ends and await _forget(pool):
        pass
    return settled


# Waiting: their task or the reservation that they name is known by now, or the payment whose money went back.
READY = f"""
WITH looked AS MATERIALIZED (
  SELECT id, provider, path, named, outcome, task, own, status, tried_at FROM webhook_inbox
  WHERE status IN ('received', 'waiting') AND id < $1 ORDER BY id DESC LIMIT $2
)
SELECT count(*) AS looked, min(id) AS last, array_agg(id ORDER BY id DESC) FILTER (
  WHERE status = 'received' AND tried_at < clock_timestamp() - make_interval(secs => $3)
  OR status = 'waiting' AND (
    EXISTS (
      SELECT FROM journal bound
      WHERE bound.task = looked.task AND {binds("bound")}
        AND coalesce(bound.entry::json ->> 'provider', looked.provider) = looked.provider
    )
    OR EXISTS (
      SELECT FROM journal j WHERE j.reservation IN (looked.own::uuid, nullif(looked.path, '')::uuid)
    )
    OR looked.outcome = 'reversed' AND EXISTS (
      SELECT FROM webhook_inbox paid
      WHERE paid.provider = looked.provider AND paid.path = '' AND paid.outcome = 'succeeded'
        AND paid.named = ANY (string_to_array(looked.named, ' ')) AND paid.status = 'verified'
    )
  )
) AS ready
FROM looked
"""  # noqa: S608

TRIED = "UPDATE webhook_inbox SET tried_at = clock_timestamp() WHERE id = $1"


async def _ready(pool: Pool, before: int) -> tuple[list[int], int | None]:
    """The ids of those that can be acted on, newest first, and behind which id it goes on: `LOOKED_MAX` are
    looked at.
    """
    async with answering(pool) as connection:
        row = await connection.fetchrow(READY, before, LOOKED_MAX, float(ABANDONED_SECONDS))
    assert row is not None, "counts are one row"
    return row["ready"] or [], row["last"] if row["looked"] == LOOKED_MAX else None


class _Payments:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def granted(self, keys: tuple[str, ...]) -> Granted | None:
        async with answering(self._pool) as connection:
            return await rows.granted(connection, keys)

    async def claim(self, received: Received, keys: tuple[str, ...], share: int) -> int:
        async with answering(self._pool) as connection, connection.transaction():
            return await rows.claim(connection, received, keys, share)


async def _try_again(pool: Pool, ledger: Ledger, rules: Rules, row: int) -> bool:
    async with answering(pool) as connection:
        await connection.execute(TRIED, row)  # so that one that never comes to an end holds up no other
        received = await rows.received(connection, row)
    if received is None:
        return False
    try:
        settlement = await act(ledger, _Payments(pool), rules, received)
    except LedgerFenced as error:  # others may be of shards that are not
        log.info("webhook %d waits: %s", row, error)
        return False
    except (Unavailable, BackingUnavailable):
        raise
    except LedgerError:
        log.exception("webhook %d cannot be settled", row)
        return False
    async with answering(pool) as connection, connection.transaction():
        await rows.settle(connection, row, received, settlement)
    if settlement.status in ("conflict", "refused"):
        log.warning("webhook %d of %s: %s, %s", row, received.provider, settlement.status, settlement.why)
    return settlement.status != "waiting"


# The oldest are looked at, and no others: those that waited longest were the first to come.
GIVE_UP = """
UPDATE webhook_inbox SET status = 'unknown', settled_at = clock_timestamp()
FROM (SELECT id AS oldest FROM webhook_inbox WHERE status = 'waiting' ORDER BY id LIMIT $2) AS waiting
WHERE id = oldest AND status = 'waiting' AND received_at < clock_timestamp() - make_interval(hours => $1)
RETURNING id, provider, named
"""


async def _give_up(pool: Pool) -> None:
    """What was not known for a day is not going to be."""
    async with answering(pool) as connection:
        for row in await connection.fetch(GIVE_UP, WAITING_HOURS, GONE_MAX):
            log.warning("webhook %d of %s: nobody knows %s", row["id"], row["provider"], row["named"])


# By `now`, which is the same for every row, so that an index leads to those that are too old.
FORGET = """
UPDATE webhook_inbox SET payload = NULL, reason = NULL WHERE id IN (
  SELECT id FROM webhook_inbox
  WHERE payload IS NOT NULL AND received_at < now() - make_interval(days => $1)
  ORDER BY received_at LIMIT $2
)
"""

REMOVE = """
DELETE FROM webhook_inbox WHERE id IN (
  SELECT id FROM webhook_inbox
  WHERE status IN ('rejected', 'unknown') AND last_at < now() - make_interval(days => $1)
  ORDER BY last_at LIMIT $2
)
"""


async def _forget(pool: Pool) -> bool:
    """Remove some of what is too old: payloads, and rows that nobody asks for. `False`: there was none."""
    async with answering(pool) as connection:
        done = [await connection.execute(each, KEPT_DAYS, GONE_MAX) for each in (FORGET, REMOVE)]
    return any(not each.endswith(" 0") for each in done)
