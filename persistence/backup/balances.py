"""Opening balances from elsewhere: a file of accounts and amounts, granted once however often it is brought.

Every line has a key of its own, made of its bucket and expiry, which belongs to its account. Redis remembers
keys for a day; after that the journal is asked before anything is granted. The whole file is checked first,
and a line that can never be granted keeps all of it from being.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from app.ledger.apart import earliest_ms
from app.ledger.connection import connect
from app.ledger.errors import Refused, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Grant
from persistence import admission
from persistence.backing import PostgresBacking, decode_entry
from persistence.backup.manifest import BackupRefused
from persistence.backup.openings import Bad, Opening, read, shortened
from persistence.pool import Pool, answering, open_pool

AT_ONCE = 512
LOOKED_UP_AT_ONCE = 1_000
LOOK_SECONDS = 60.0


class Opened(NamedTuple):
    """What became of a file. `begun`: it was good as a whole; `bad` then are lines refused all the same."""

    granted: int
    there: int
    empty: int
    bad: list[Bad]
    begun: bool


async def open_balances(
    database_url: str,
    redis_url: str,
    path: Path,
    *,
    expect: Callable[[int], None] = lambda _lines: None,
    seen: Callable[[int], None] = lambda _lines: None,
) -> Opened:
    """Grant what a file says and what was not granted before.

    Args:
        database_url: Of a born ledger.
        redis_url: Its Redis.
        path: Comma-separated, UTF-8, with a first line that names the columns.
        expect: Told once how many lines there are to grant.
        seen: Told now and then how many more were.

    Raises:
        BackupRefused: It is not such a file; or the ledger stopped answering, and then some lines were
            granted. Bringing the file again goes on.
    """
    async with _ledger(database_url, redis_url) as (ledger, pool, now_ms):
        file = read(path)
        there, contradicting = await _looked_up(pool, file.by_line)
        missing = [(line, each) for line, each in file.by_line.items() if line not in there]
        bad = sorted([*file.bad, *contradicting, *_past(missing, now_ms)])
        if bad:
            return Opened(0, 0, file.empty, shortened(bad), begun=False)
        expect(len(missing))
        granted = 0
        refused: list[Bad] = []
        for begin in range(0, len(missing), AT_ONCE):
            piece = missing[begin : begin + AT_ONCE]
            answers = await asyncio.gather(*(_grant(ledger, each) for _, each in piece))
            for (line, each), why in zip(piece, answers, strict=True):
                if why is not None:
                    refused.append((line, f"{each.account}: {why}"))
            granted += answers.count(None)
            seen(len(piece))
        return Opened(granted, len(there), file.empty, refused, begun=True)


@asynccontextmanager
async def _ledger(database_url: str, redis_url: str) -> AsyncIterator[tuple[Ledger, Pool, int]]:
    """A ledger of one's own for as long as the block runs, and Redis' time."""
    pool = await open_pool(database_url, connections_max=2, name="lastro import")
    try:
        async with connect(redis_url) as redis, connect(redis_url) as aside:
            ledger = Ledger(redis, PostgresBacking(pool, partial(admission.admit, pool, aside)))
            await ledger.start()
            now_ms = await earliest_ms(aside)
            try:
                yield ledger, pool, now_ms
            finally:
                await ledger.stop()
    finally:
        pool.terminate()


async def _grant(ledger: Ledger, opening: Opening) -> str | None:
    """`None` when it is granted, else why it never will be."""
    grant = Grant(
        account=opening.account,
        bucket=opening.bucket,
        amount=opening.amount,
        priority=opening.priority,
        expires_at_ms=opening.expires_at_ms,
        key=opening.key,
        fingerprint=opening.fingerprint,
    )
    try:
        await ledger.grant(grant)
    except Unavailable as error:
        why = error.facts.get("why", "")
        raise BackupRefused(
            f"The ledger stopped taking grants ({error.word}: {why}). Some lines were granted; bring the "
            "file again, it goes on with the others."
        ) from error
    except Refused as error:
        return error.word
    return None


# Kinds and accounts are indexed with versions; only keys of opening balances are looked at.
GRANTED = """
SELECT account, entry FROM journal
WHERE account = ANY($1::text[]) AND kind = 'granted' AND operation_key LIKE 'opening:%'
"""


async def _looked_up(pool: Pool, openings: dict[int, Opening]) -> tuple[set[int], list[Bad]]:
    """The lines that the journal has, and those of which it has something else."""
    there: set[int] = set()
    bad: list[Bad] = []
    lines = list(openings)
    for begin in range(0, len(lines), LOOKED_UP_AT_ONCE):
        piece = lines[begin : begin + LOOKED_UP_AT_ONCE]
        accounts = list({openings[line].account for line in piece})
        async with answering(pool, LOOK_SECONDS) as connection:
            rows = await connection.fetch(GRANTED, accounts)
        entries = [decode_entry(row["entry"]) for row in rows]
        known = {(entry.account, entry.key): entry for entry in entries}
        for line in piece:
            opening = openings[line]
            entry = known.get((opening.account, opening.key))
            if entry is None:
                continue
            there.add(line)
            if entry.fingerprint != opening.fingerprint:
                why = f"{opening.account}: bucket {opening.bucket} was opened before with {entry.amount}"
                bad.append((line, f"{why}; a line is granted once, and not changed afterwards"))
    return there, bad


def _past(missing: Sequence[tuple[int, Opening]], now_ms: int) -> list[Bad]:
    """What can be granted no more. What was granted in time may be past when its file is brought again."""
    return [
        (line, f"expires {datetime.fromtimestamp(each.expires_at_ms / 1000, UTC).isoformat()} is past")
        for line, each in missing
        if 0 < each.expires_at_ms <= now_ms
    ]
