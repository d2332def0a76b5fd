"""Brings a backup into a fresh ledger, which then is that of the backup: same id, same heads, same balances.

Fresh means that no credits were ever moved in it. One that `lastro migrate` or `lastro up` has founded and
nobody has used is taken back first. Rows, what they add up to and the cursor move page by page, each page in
one transaction and by the same folding as in the journal's worker, so that an import may be killed anywhere
and begun again with the same backup. Until the last page is there the ledger is not born: nothing is served
from a half of it. In the end PostgreSQL stands where the backup does, Redis is empty, and every shard is
fenced for `lastro restore`.
"""

import time
from collections.abc import Callable, Sequence
from uuid import UUID

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import fence as fence_in_redis
from app.ledger.apart import each_key
from app.ledger.entries import genesis
from app.ledger.shards import SHARDS_MAX
from app.ledger.stream import Broken, Line
from persistence.admission import Barrier, past
from persistence.backup.manifest import BackupRefused, Manifest
from persistence.backup.reading import Backup, Proved
from persistence.birth import ADVISORY_LOCK
from persistence.months import Room
from persistence.pool import Connection
from persistence.projections import Projections
from persistence.rows import JOURNAL, NOTES, row_of

BEGUN = "An import into this database was begun and not finished. Run `lastro import` again with its backup."
DONE = "A backup was imported into PostgreSQL. Run `lastro restore`, which brings Redis to it."

_METAS = {keys.meta(shard): shard for shard in range(SHARDS_MAX)}
_ERASURES = ("shard", "seq", "erased_at", "by", "reason")


async def import_backup(
    connection: Connection,
    redis: Redis,
    backup: Backup,
    *,
    seen: Callable[[int], None] = lambda _rows: None,
    barrier: Barrier = past,
) -> None:
    """Bring in a backup that was checked. One that was brought in already is left as it is.

    Args:
        connection: Of a migrated database; outside any transaction. It takes the lock of births.
        redis: The one that the ledger is to use.
        backup: Read here once more.
        seen: Told now and then how many more rows are in.
        barrier: `after fence`, `after clearing`, `after founding`, `after page`, `before birth`.

    Raises:
        BackupRefused: The ledger is in use, Redis is not empty, or the backup is damaged after all.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
    try:
        if await _is_done(connection, backup.manifest):
            return
        if not await _is_begun(connection, backup.manifest):
            await _make_room(connection, redis, len(backup.manifest.shards), barrier)
            await _found(connection, backup.manifest)
            await barrier("after founding")
        await _demand_empty(redis)
        room = Room()
        for page in backup.pages():
            await room.make(connection, (each.entry.at_ms for each in page))
            await _take_in(connection, page)
            seen(len(page))
            await barrier("after page")
        await barrier("before birth")
        await _give_birth(connection, backup.manifest)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", ADVISORY_LOCK)


LEDGER = "SELECT id, shards, born FROM ledger"

STANDINGS = "SELECT shard, cursor, head, fence, fenced_by FROM shards ORDER BY shard"


async def _is_done(connection: Connection, manifest: Manifest) -> bool:
    """Whether this very backup is in, and nothing happened since but, perhaps, the beginning of a restore."""
    row = await connection.fetchrow(LEDGER)
    if row is None or not row["born"] or str(row["id"]) != manifest.ledger:
        return False
    rows = await connection.fetch(STANDINGS)
    return [(row["cursor"], row["head"].hex(), row["fenced_by"]) for row in rows] == [
        (each.cursor, each.head, "restore") for each in manifest.shards
    ]


async def _is_begun(connection: Connection, manifest: Manifest) -> bool:
    """Whether an import of this ledger is to be gone on with.

    Raises:
        BackupRefused: One of another ledger, or of a shorter journal, is.
    """
    row = await connection.fetchrow(LEDGER)
    rows = await connection.fetch(STANDINGS)
    if row is None or row["born"] or not any(each["fence"] == BEGUN for each in rows):
        return False
    if str(row["id"]) != manifest.ledger:
        raise BackupRefused(
            f"An import of ledger {row['id']} into this database was begun; this backup is of "
            f"{manifest.ledger}. Finish that one, or name an empty database in LASTRO_DATABASE_URL."
        )
    if any(each.cursor < row["cursor"] for each, row in zip(manifest.shards, rows, strict=True)):
        raise BackupRefused("The import that was begun here was of a later backup. Go on with that one.")
    return True


UNUSED = """
SELECT NOT EXISTS (SELECT FROM journal) AND NOT EXISTS (SELECT FROM accounts)
  AND NOT EXISTS (SELECT FROM shards WHERE cursor > 0)
"""

FENCE = """
UPDATE shards SET fence = $1, fenced_at = now(), fenced_by = 'operator' WHERE fence IS NULL
"""


async def _make_room(connection: Connection, redis: Redis, shards: int, barrier: Barrier) -> None:
    """Take back a ledger that nobody has used; nobody can use it any more before its keys go."""
    row = await connection.fetchrow(LEDGER)
    ledger = None if row is None else str(row["id"])
    if not await connection.fetchval(UNUSED):
        raise BackupRefused(
            f"The ledger of this database is in use ({ledger}). A backup goes into a fresh one: name an "
            "empty database in LASTRO_DATABASE_URL. To bring Redis back from this journal: `lastro restore`."
        )
    metas = await _demand_unused(redis, ledger)
    if row is not None and row["shards"] != shards:  # which processes that run know by heart
        raise BackupRefused(
            f"The backup has {shards} shards, and the ledger that was founded here has {row['shards']}. Name "
            f"an empty database and an empty Redis, and set LASTRO_SHARDS={shards}."
        )
    if ledger is not None and row is not None and row["born"]:
        await connection.execute(FENCE, "A backup is being imported.")
        for shard in metas:
            await fence_in_redis(redis, ledger, shard, "A backup is being imported.")
        await barrier("after fence")
        metas = await _demand_unused(redis, ledger)
    await redis.delete(keys.LEDGER, *map(keys.meta, metas))
    await barrier("after clearing")


async def _demand_unused(redis: Redis, ledger: str | None) -> list[int]:
    """The shards whose meta a birth has made in this Redis, in which there is nothing else."""
    there = await redis.hget(keys.LEDGER, "id")
    if there is not None and there != (ledger or "").encode():
        raise BackupRefused(
            "This Redis holds a ledger that is not the one of this database. Name an empty one in "
            "LASTRO_REDIS_URL."
        )
    metas = []
    async for key in each_key(redis, keys.SCAN_ALL):
        name = key.decode()
        if name in _METAS and await redis.hget(name, "sequence") == b"0":
            metas.append(_METAS[name])
        elif name != keys.LEDGER and not _is_lane(key):
            raise BackupRefused(_IN_USE)
    return metas


_IN_USE = (
    "The ledger in this Redis is in use. A backup goes into a fresh one: name an empty Redis in "
    "LASTRO_REDIS_URL. If shards were fenced for the import, `lastro unfence` opens them."
)


def _is_lane(key: bytes) -> bool:
    """A process that was served from here may leave one behind, in any shard."""
    _, kind = keys.kind_of(key) or (-1, "")
    return kind == "lane"


async def _demand_empty(redis: Redis) -> None:
    async for key in each_key(redis, keys.SCAN_ALL):
        if not _is_lane(key):
            raise BackupRefused(
                "This Redis has keys of a ledger, and an import needs an empty one. Name another in "
                "LASTRO_REDIS_URL."
            )


REMOVE = "DELETE FROM incarnations; DELETE FROM shards; DELETE FROM ledger"

FOUND = "INSERT INTO ledger (id, shards) VALUES ($1, $2)"

FOUND_SHARDS = """
INSERT INTO shards (shard, head, fence, fenced_at, fenced_by)
SELECT shard, head, $3, now(), 'restore' FROM unnest($1::integer[], $2::bytea[]) AS new (shard, head)
"""


async def _found(connection: Connection, manifest: Manifest) -> None:
    ledger = UUID(manifest.ledger)
    shards = [each.shard for each in manifest.shards]
    async with connection.transaction():
        await connection.execute(REMOVE)
        await connection.execute(FOUND, ledger, len(shards))
        heads = [genesis(ledger.bytes, shard) for shard in shards]
        await connection.execute(FOUND_SHARDS, shards, heads, BEGUN)


STANDING = "SELECT cursor, head FROM shards WHERE shard = $1 FOR UPDATE"

ADVANCE = "UPDATE shards SET cursor = $2, link = $3, head = $4 WHERE shard = $1"


async def _take_in(connection: Connection, page: Sequence[Proved]) -> None:
    """Append what of a page is not in yet, all or nothing."""
    shard = page[0].row.shard
    async with connection.transaction():
        row = await connection.fetchrow(STANDING, shard)
        assert row is not None, "a shard without a row"
        cursor = row["cursor"]
        for each in page:
            if each.row.seq == cursor and each.head != row["head"]:
                raise BackupRefused(f"Row {cursor} of shard {shard}, imported before, is another one.")
        new = [each for each in page if each.row.seq > cursor]
        if not new:
            return
        await _append(connection, shard, new)
        last = new[-1]
        await connection.execute(ADVANCE, shard, last.row.seq, last.entry.nonce, last.head)


async def _append(connection: Connection, shard: int, new: Sequence[Proved]) -> None:
    projections = Projections(shard)
    lines = [Line(row.seq, entry, row.entry.encode(), None) for row, entry, _ in new]
    await projections.load(connection, lines)
    try:
        projections.fold(lines)
    except Broken as error:
        raise BackupRefused(f"{error} (shard {shard})") from error
    rows = [row_of(shard, row.seq, entry, row.entry, head) for row, entry, head in new]
    await connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
    notes = [(shard, row.seq, row.notes) for row, _, _ in new if row.notes is not None]
    await connection.copy_records_to_table("notes", records=notes, columns=NOTES)
    erased = [
        (shard, row.seq, row.erased.at, row.erased.by, row.erased.reason) for row, *_ in new if row.erased
    ]
    await connection.copy_records_to_table("erasures", records=erased, columns=_ERASURES)
    await projections.store(connection)


GIVE_BIRTH = "UPDATE ledger SET born = true"

SETTLE = """
UPDATE shards
SET bytes = new.bytes, incarnation = greatest(new.incarnation, $4), fence = $5, fenced_at = now(),
  journaled_at = CASE WHEN cursor > 0 THEN $6::timestamptz END
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS new (shard, bytes, incarnation)
WHERE shards.shard = new.shard
"""


async def _give_birth(connection: Connection, manifest: Manifest) -> None:
    """Everything is in. No admission comes as often as once a minute, so that with the minutes since 1970 as
    its incarnation no shard ever again numbers a call as one that was lost after the backup.
    """
    shards = manifest.shards
    minutes = int(time.time()) // 60
    async with connection.transaction():
        rows = await connection.fetch(STANDINGS)
        assert [(row["cursor"], row["head"].hex()) for row in rows] == [(s.cursor, s.head) for s in shards]
        numbers, sizes = [each.shard for each in shards], [each.bytes for each in shards]
        incarnations = [each.incarnation for each in shards]
        await connection.execute(SETTLE, numbers, sizes, incarnations, minutes, DONE, manifest.taken_at)
        await connection.execute(GIVE_BIRTH)
