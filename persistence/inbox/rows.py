"""Rows of the inbox as they are written: received, counted, settled."""

import msgspec
from asyncpg import Record
from msgspec import UNSET, UnsetType

from app.events import ProviderFinished
from app.ledger.backing import BackingUnavailable
from app.webhooks.event import Unreadable
from app.webhooks.inbox import OPEN, REPLAYABLE, Granted, Kept, Received
from app.webhooks.settling import Settlement
from persistence.events.outbox import Outbox
from persistence.pool import Connection

OF_A_URL_MAX = 16
"""Rows of one callback URL: a reservation has a task or two, and each of them three outcomes."""

RECEIVE = """
INSERT INTO webhook_inbox AS there (
  provider, path, named, outcome, word, task, own, amount, reason, payload, status, settled_at
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8::bigint, $9, $10, $11,
  CASE WHEN $11 = 'verified' THEN clock_timestamp() END
WHERE $2 = '' OR $12 > (
  SELECT count(*) FROM webhook_inbox WHERE provider = $1 AND path = $2 AND (named, outcome) <> ($3, $4)
)
ON CONFLICT (provider, path, named, outcome) DO UPDATE
SET deliveries = there.deliveries + 1, last_at = clock_timestamp(),
  word = CASE WHEN there.outcome = 'progress' THEN excluded.word ELSE there.word END
RETURNING id, status
"""


async def receive(connection: Connection, received: Received) -> Kept:
    """Keep it, or count it where it came before. What is noted only is settled by that.

    Raises:
        Unreadable: Its callback URL has been called for `OF_A_URL_MAX` other things already.
    """
    row = await connection.fetchrow(
        RECEIVE,
        received.provider,
        received.path,
        received.named,
        received.outcome,
        received.word,
        received.task,
        received.own,
        received.amount,
        received.reason,
        received.payload,
        "verified" if received.outcome == "progress" else "received",
        OF_A_URL_MAX,
    )
    if row is None:
        raise Unreadable(f"this callback URL has told of {OF_A_URL_MAX} other tasks and outcomes already")
    return Kept(row["id"], row["status"])


# A crash may lie between what was done and this, and others may have done it too: who says so first is heard.
SETTLE = """
UPDATE webhook_inbox
SET status = $2, why = left($3, 1000), reservation = $4, account = $5, resource = $6, transaction = $7,
  credits = $8, tried_at = clock_timestamp(),
  settled_at = CASE WHEN $2 <> 'waiting' THEN clock_timestamp() END
WHERE id = $1 AND status = ANY ($9::text[])
"""


async def settle(
    connection: Connection, row: int, received: Received, settlement: Settlement, *, again: bool = False
) -> None:
    """Keep what came of it, and let whoever listens be told. Needs a transaction.

    `again`: also what was refused or a conflict. Repeating it changes nothing.
    """
    changed = await connection.execute(
        SETTLE,
        row,
        settlement.status,
        settlement.why,
        settlement.reservation,
        settlement.account,
        settlement.resource,
        settlement.transaction,
        settlement.credits,
        REPLAYABLE if again else OPEN,
    )
    if changed == "UPDATE 1":
        await _tell(connection, received, settlement)


async def _tell(connection: Connection, received: Received, settlement: Settlement) -> None:
    """`provider.finished`: once for what was done, also when it came by several ways."""
    if received.outcome not in ("succeeded", "failed") or settlement.status in ("waiting", "conflict"):
        return
    if settlement.reservation is None or settlement.account is None:
        return  # a payment
    finished = ProviderFinished(
        provider=received.provider,
        reservation_id=settlement.reservation,
        account_id=settlement.account,
        task_id=_given(received.task),
        resource_id=_given(settlement.resource),
        outcome=received.outcome,
        transaction_id=_given(settlement.transaction),
        payload=msgspec.Raw(received.payload.encode()),
    )
    once = f"provider.finished {settlement.reservation} {settlement.transaction or ''}"
    await Outbox.put(connection, "provider.finished", settlement.account, finished, once=once)


def _given(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value


AGAIN = """
SELECT provider, path, named, outcome, word, task, own, amount, reason, payload FROM webhook_inbox
WHERE id = $1 AND payload IS NOT NULL
"""


async def received(connection: Connection, row: int) -> Received | None:
    """The delivery of a row; `None` where its payload is no longer kept."""
    found = await connection.fetchrow(AGAIN, row)
    return None if found is None else delivery(found)


def delivery(row: Record) -> Received:
    """What a row was made of."""
    return Received(**{name: row[name] for name in Received.__struct_fields__})


GRANTED = """
SELECT id, account, credits FROM webhook_inbox
WHERE provider = 'stripe' AND path = '' AND named = ANY ($1::text[]) AND outcome = 'succeeded'
  AND status = 'verified' AND credits IS NOT NULL
ORDER BY id LIMIT 1
"""


async def granted(connection: Connection, keys: tuple[str, ...]) -> Granted | None:
    """What a payment was granted that is known by one of these keys."""
    row = await connection.fetchrow(GRANTED, keys)
    return None if row is None else Granted(row["account"], row["credits"])


# Whoever claims holds the row of the payment, so that the others of this payment have been claimed or wait.
CLAIM = """
UPDATE webhook_inbox mine SET due = coalesce(due, greatest(0, least($2, $3 - (
  SELECT coalesce(sum(due), 0) FROM webhook_inbox other
  WHERE other.outcome = 'reversed' AND string_to_array(other.named, ' ') && $4::text[] AND other.id <> mine.id
))))
WHERE provider = 'stripe' AND path = '' AND named = $1 AND outcome = 'reversed'
RETURNING due
"""


async def claim(connection: Connection, received: Received, keys: tuple[str, ...], share: int) -> int:
    """As `Payments.claim`, of a payment that was granted. Needs a transaction."""
    of = await connection.fetchrow(GRANTED + " FOR UPDATE", keys)
    assert of is not None, "what was granted stays granted"
    due = await connection.fetchval(CLAIM, received.named, share, of["credits"], keys)
    if due is None:
        raise BackingUnavailable("what is to be taken back is not in the inbox yet")
    return int(due)
