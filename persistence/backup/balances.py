"""Opening balances from elsewhere: a file of accounts and amounts, granted once however often it is brought.

Every line has a key of its own, made of its bucket and expiry, which belongs to its account. Redis remembers
keys for a day; after that the journal is asked before anything is granted. The whole file is checked first,
and a line that can never be granted keeps all of it from being.
"""

import asyncio
import csv
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct
from redis.asyncio import Redis

from app.ledger.connection import connect
from app.ledger.credits import CREDITS_MAX
from app.ledger.errors import Refused, Unavailable
from app.ledger.ledger import Ledger, fingerprint
from app.ledger.operations import Grant
from persistence import admission
from persistence.backing import PostgresBacking, decode_entry
from persistence.backup.manifest import BackupRefused
from persistence.folding import LOTS_MAX
from persistence.pool import Pool, answering, open_pool

LINES_MAX = 1_000_000
BAD_MAX = 100
AT_ONCE = 512
LOOKED_UP_AT_ONCE = 1_000
LOOK_SECONDS = 60.0

_ACCOUNT = re.compile(r"[A-Za-z0-9._:@+-]{1,128}", re.ASCII)
_BUCKET = re.compile(r"[A-Za-z0-9._:@+/-]{1,64}", re.ASCII)
_AMOUNT = re.compile(r"\d{1,16}", re.ASCII)
_PRIORITY = re.compile(r"\d{1,7}", re.ASCII)
_PRIORITY_MAX = 1_000_000
_OVERDRAFT = "overdraft"
_REQUIRED, _OPTIONAL = ("account", "bucket", "amount"), ("priority", "expires")

Bad = tuple[int, str]
"""The number of a line, and what is wrong with it."""


class Opening(Struct, frozen=True, omit_defaults=True):
    """What one line asks for; with the same, the same request."""

    account: str
    bucket: str
    amount: int
    priority: int | None = None
    expires_at_ms: int = 0

    @property
    def key(self) -> str:
        """The account's idempotency key of this line."""
        return f"opening:{self.bucket}" + (f":{self.expires_at_ms}" if self.expires_at_ms else "")

    @property
    def fingerprint(self) -> str:
        return fingerprint("grant", self)


class Opened(NamedTuple):
    """What became of a file. `begun`: it was good as a whole; `bad` then are lines refused all the same."""

    granted: int
    there: int
    empty: int
    bad: list[Bad]
    begun: bool


class _File(NamedTuple):
    openings: dict[int, Opening]
    empty: int
    bad: list[Bad]


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
        file = _read(path)
        there, contradicting = await _looked_up(pool, file.openings)
        missing = [(line, each) for line, each in file.openings.items() if line not in there]
        bad = sorted([*file.bad, *contradicting, *_past(missing, now_ms)])
        if bad:
            return Opened(0, 0, file.empty, _shortened(bad), begun=False)
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
            now_ms = await _clock_ms(aside)
            try:
                yield ledger, pool, now_ms
            finally:
                await ledger.stop()
    finally:
        pool.terminate()


async def _clock_ms(redis: Redis) -> int:
    seconds, _ = await redis.time()
    return int(seconds) * 1000


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


def _shortened(bad: list[Bad]) -> list[Bad]:
    if len(bad) <= BAD_MAX:
        return bad
    return [*bad[:BAD_MAX], (bad[BAD_MAX - 1][0], f"and no further: more than {BAD_MAX} lines are wrong")]


def _read(path: Path) -> _File:
    """All lines, each by itself and all together."""
    openings: dict[int, Opening] = {}
    bad: list[Bad] = []
    empty = 0
    together = _Together()
    for line, row in _rows(path):
        try:
            opening = _opening(row)
            if opening is None:
                empty += 1
                continue
            together.add(line, opening)
        except ValueError as error:
            bad.append((line, str(error)))
            if len(bad) > BAD_MAX:
                break
        else:
            openings[line] = opening
        if len(openings) > LINES_MAX:
            raise BackupRefused(f"{path} has more than {LINES_MAX:,} lines. Split it.")
    return _File(openings, empty, bad)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and fields of each line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [each.strip() for each in next(reader, [])]
            known = {*_REQUIRED, *_OPTIONAL}
            if not set(_REQUIRED) <= set(columns) <= known or len(set(columns)) < len(columns):
                raise BackupRefused(
                    f"The first line of {path} must name its columns: {','.join(_REQUIRED)} and, where "
                    f"wanted, {','.join(_OPTIONAL)}."
                )
            for fields in reader:
                if fields:
                    row = dict.fromkeys(columns, "")
                    row |= zip(columns, (each.strip() for each in fields), strict=False)
                    excess = {"more": ""} if len(fields) > len(columns) else {}
                    yield reader.line_num, row | excess
    except (UnicodeDecodeError, csv.Error) as error:
        raise BackupRefused(f"{path} cannot be read: {error}.") from error


def _opening(row: dict[str, str]) -> Opening | None:
    """What a line asks for; `None`: nothing.

    Raises:
        ValueError: It is wrong; the text says how.
    """
    if "more" in row:
        raise ValueError("more fields than the first line has")
    bucket = row["bucket"] or "default"
    _demand(_ACCOUNT, "account", row["account"], "1 to 128 of ASCII letters, digits and . _ : @ + -")
    _demand(_BUCKET, "bucket", bucket, "1 to 64 of ASCII letters, digits and . _ : @ + - /")
    if bucket == _OVERDRAFT:
        raise ValueError(f"bucket {bucket} is reserved")
    _demand(_AMOUNT, "amount", row["amount"], "a whole number")
    amount = int(row["amount"])
    if amount > CREDITS_MAX:
        raise ValueError(f"amount {amount} is more than {CREDITS_MAX}")
    priority = None
    if row.get("priority"):
        _demand(_PRIORITY, "priority", row["priority"], "a whole number")
        priority = int(row["priority"])
        if priority > _PRIORITY_MAX:
            raise ValueError(f"priority {priority} is more than {_PRIORITY_MAX}")
    expires_at_ms = _milliseconds(row["expires"]) if row.get("expires") else 0
    return Opening(row["account"], bucket, amount, priority, expires_at_ms) if amount else None


def _demand(shape: re.Pattern[str], name: str, value: str, wanted: str) -> None:
    if not shape.fullmatch(value):
        raise ValueError(f"{name} {value[:200]!r} is not {wanted}")


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expires {text[:200]!r} is not a date or an RFC 3339 time") from None
    if moment.tzinfo is None and len(text) > len("2026-01-01"):
        raise ValueError(f"expires {text!r} lacks its offset (Z for UTC)")
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    found = int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000
    if found <= 0:
        raise ValueError(f"expires {text} is past")
    return found


class _Together:
    """What lines ask for together: no line twice, no account above what an account may have."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], int] = {}
        self._priorities: dict[tuple[str, str], int | None] = {}
        self._sums: dict[str, int] = {}
        self._lots: dict[str, int] = {}

    def add(self, line: int, opening: Opening) -> None:
        """Raises `ValueError` when the line does not go with those before it."""
        account, its = opening.account, (opening.account, opening.bucket)
        first = self._lines.setdefault((account, opening.key), line)
        if first != line:
            raise ValueError(f"account, bucket and expiry are those of line {first}")
        if self._priorities.setdefault(its, opening.priority) != opening.priority:
            raise ValueError(f"bucket {opening.bucket} of {account} has another priority in a line before")
        self._sums[account] = self._sums.get(account, 0) + opening.amount
        if self._sums[account] > CREDITS_MAX:
            raise ValueError(f"{account} would have more than {CREDITS_MAX}")
        self._lots[account] = self._lots.get(account, 0) + 1
        if self._lots[account] > LOTS_MAX:
            raise ValueError(f"{account} would have more than {LOTS_MAX} lots")
