"""Goes on after PostgreSQL lost entries that Redis' stream no longer has.

PostgreSQL ends at its cursor C; the first call that Redis' stream still has from its beginning starts at
entry F, after C + 1; Redis has counted to S. What happened in C + 1 .. F - 1 is lost for good, but what it
came to is not: Redis' state now, with the entries from F on taken back (`lost`), is the state at F - 1. So
every lost entry is replaced, in its own place, by an entry `adjusted` (`adjustments`), which together lead
from what PostgreSQL has at C to what Redis had at F - 1. Then F .. S are journaled like every day.

Why no promise breaks:

- The entries that are made have the sequences and versions of the lost ones, and each proves itself. So the
  cursor does not jump: it moves over rows that are there.
- The chain of hashes goes on over those rows from the head that PostgreSQL has.
- A receipt names sequence and incarnation. The rows have a number that was never given, so that the receipt
  of a lost entry names nothing rather than a stranger's entry; and a repeated request whose first answer was
  lost is answered 503, never by what has taken its place.
- Redis is not written to. The shard refuses before and after; only `unfence`, which judges it again under the
  lock, opens it.
- Rows, projections and cursor are one transaction, which names the cursor that was read: killed anywhere, it
  has happened or not, and can be begun again.

What is lost for good is told: which sequences of which shard, and of which accounts; the texts of the
beginning of a call that the stream has only in part are kept in `orphans`.
"""

from hashlib import sha256
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import survey
from app.ledger.connection import connect as connect_redis
from app.ledger.judgement import Sighting, Standing
from app.ledger.shards import TransactionId
from persistence import rebuild
from persistence.admission import admit
from persistence.admission_steps import Barrier, past
from persistence.fences import unfence
from persistence.months import Room
from persistence.pool import Connection, open_pool
from persistence.projections import Projections
from persistence.readable import as_text
from persistence.reconcile.adjustments import Adjustments
from persistence.reconcile.looking_back import before
from persistence.reconcile.lost import Loss, NotAdoptable, Then
from persistence.reconcile.placing import Stored
from persistence.rows import JOURNAL, NOTES, rows_of
from persistence.session import connect
from persistence.standings import read_standings

ACCOUNTS_NAMED_MAX = 20


class Adopted(Struct, frozen=True):
    """What was done for a shard. `still`: why it still refuses, if it does."""

    loss: Loss
    accounts: list[str]
    still: str | None

    @property
    def sentence(self) -> str:
        some = ", ".join(self.accounts[:ACCOUNTS_NAMED_MAX])
        more = len(self.accounts) - ACCOUNTS_NAMED_MAX
        named = some + (f" and {more} more" if more > 0 else "")
        entries = self.loss.last - self.loss.first + 1
        state = f"It still refuses: {self.still}" if self.still else "It is open again."
        return (
            f"shard {self.loss.shard}: {entries} lost entries of {len(self.accounts)} accounts ({named}) "
            f"were replaced by adjustments to what Redis has. {state}"
        )


async def losses(database_url: str, redis_url: str) -> list[Loss]:
    """The shards that can be gone on with by `adopt` only."""
    connection = await connect(database_url, name="lastro adopt")
    try:
        async with connect_redis(redis_url) as redis:
            return [loss for _, _, loss in await _losses(connection, redis)]
    finally:
        await connection.close()


LEDGER = "SELECT id::text AS id FROM ledger WHERE born"


async def _losses(connection: Connection, redis: Redis) -> list[tuple[Standing, Sighting, Loss]]:
    ledger = await connection.fetchval(LEDGER)
    standings = await read_standings(connection)
    found = []
    for standing, sighting in zip(standings, await survey(redis, ledger, standings), strict=True):
        if not sighting.sequence.isdecimal() or sighting.journal_type not in ("stream", "none"):
            continue
        cursor, sequence = standing.cursor, int(sighting.sequence)
        if sequence <= cursor or sighting.next_id == f"{cursor + 1}-0":
            continue
        first = sighting.next_id.partition("-")[0]
        last = int(first) - 1 if first else sequence
        found.append((standing, sighting, Loss(standing.shard, cursor + 1, last, sequence)))
    return found


async def adopt(database_url: str, redis_url: str, by: str, *, barrier: Barrier = past) -> list[Adopted]:
    """Go on from what Redis has, in every shard that `losses` names. Begun again, it does what is left.

    Args:
        database_url: Of a born ledger.
        redis_url: The one that shall be gone on with.
        by: Who wants it; stands in every entry.
        barrier: `after look`, `after commit`.

    Raises:
        NotAdoptable: Redis does not go on from what PostgreSQL has. Shards before that one are done.
    """
    done = []
    async with (
        await open_pool(database_url, connections_max=3, name="lastro adopt") as pool,
        connect_redis(redis_url) as redis,
    ):
        connection = await connect(database_url, name="lastro adopt")
        try:
            await admit(pool, redis)  # judges what nobody has looked at yet
            for standing, sighting, _ in await _losses(connection, redis):
                if standing.fence is None:
                    continue  # it was moving while it was looked at
                await barrier("after look")
                done.append(await _adopt(connection, redis, standing, sighting, by))
                await barrier("after commit")
        finally:
            await connection.close()
        if not done:
            return []
        shards = [loss.shard for loss, _ in done]
        opening = await unfence(pool, redis, shards, f"what Redis has was adopted by {by}")
    return [Adopted(loss, accounts, opening.stays.get(loss.shard)) for loss, accounts in done]


ADVANCE = """
UPDATE shards SET cursor = $3, bytes = $4, link = $5, head = $6, incarnation = $7, journaled_at = now()
WHERE shard = $1 AND cursor = $2 RETURNING shard
"""

HEAD = "SELECT head FROM shards WHERE shard = $1 FOR UPDATE"

ACCOUNTS = "SELECT account FROM accounts WHERE shard = $1"

# Of what is lost itself nothing can be given back any more.
SPENT = """
SELECT wanted.transaction, j.account, coalesce(r.refunded, 0) AS refunded
FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS wanted (transaction, incarnation, seq)
JOIN journal j ON (j.shard, j.seq, j.incarnation) = ($1, wanted.seq, wanted.incarnation)
  AND j.kind IN ('deducted', 'confirmed')
LEFT JOIN refunds r ON (r.shard, r.seq) = (j.shard, j.seq)
"""

ORPHAN = """
INSERT INTO orphans (shard, seq, entry, notes, why, sha256) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (shard, seq, sha256) DO NOTHING
"""


async def _adopt(
    connection: Connection, redis: Redis, standing: Standing, sighting: Sighting, by: str
) -> tuple[Loss, list[str]]:
    shard, cursor, sequence = standing.shard, standing.cursor, int(sighting.sequence)
    meta: Any = await redis.hmget(keys.meta(shard), ["bytes", "now_ms"])
    size, now_ms = int(meta[0] or 0), int(meta[1] or 0)
    then = await before(redis, shard, cursor, sequence=sequence, link=sighting.link, now_ms=now_ms)
    loss = Loss(shard, cursor + 1, then.first - 1, sequence)
    incarnation = max(standing.incarnation, int(sighting.incarnation)) + 1
    await Room().make(connection, [then.at_ms])
    async with connection.transaction():
        head: bytes = await connection.fetchval(HEAD, shard)
        adjustments = Adjustments(loss, then, standing.link, incarnation, f"operator:{by}")
        lines = adjustments.replace(await _stored(connection, shard, then))
        rows, notes, head = rows_of(shard, head, lines)
        projections = Projections(shard)
        await projections.load(connection, lines)
        projections.fold(lines)
        await connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
        await connection.copy_records_to_table("notes", records=notes, columns=NOTES)
        await projections.store(connection)
        done = await connection.fetchval(
            ADVANCE, shard, cursor, loss.last, size - then.bytes, then.link, head, incarnation
        )
        if done is None:
            raise NotAdoptable(f"The journal of shard {shard} moved meanwhile; look again.")
        await _keep_orphans(connection, redis, loss)
    return loss, sorted({line.entry.account for line in lines})


async def _stored(connection: Connection, shard: int, then: Then) -> Stored:
    ids = [row["account"] for row in await connection.fetch(ACCOUNTS, shard)]
    accounts = await rebuild.accounts(connection, ids)
    reservations = await rebuild.reservations(connection, list(then.reservations))
    for opened in (await rebuild.open_reservations_of(connection, ids)).values():
        reservations |= {each.id: each for each in opened}
    named = {text: TransactionId.parse(text) for text in then.refunded}
    spent = {text: each for text, each in named.items() if each is not None and each.shard == shard}
    rows = await connection.fetch(
        SPENT, shard, list(spent), [each.incarnation for each in spent.values()],
        [each.sequence for each in spent.values()],
    )  # fmt: skip
    refunds = {row["transaction"]: (row["account"], row["refunded"]) for row in rows}
    return Stored(accounts, reservations, refunds)


async def _keep_orphans(connection: Connection, redis: Redis, loss: Loss) -> None:
    """The part of a call whose beginning the stream has lost."""
    found: Any = await redis.xrange(keys.journal(loss.shard), f"{loss.first}-0", f"{loss.last}-0")
    for entry_id, fields in found:
        sequence, notes = int(entry_id.split(b"-")[0]), fields.get(b"notes")
        entry = fields.get(b"entry", b"")
        await connection.execute(
            ORPHAN,
            loss.shard,
            sequence,
            as_text(entry),
            None if notes is None else as_text(notes),
            "The beginning of its call was lost; what it came to was adopted.",
            sha256(entry).digest(),
        )
