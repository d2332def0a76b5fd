"""A file of opening balances: what each line asks for, and what is wrong with it, alone or with the others.

Nothing is asked of a ledger here: what only the ledger can tell is found in `balances`.
"""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from app.ledger.credits import CREDITS_MAX
from app.ledger.receipts import fingerprint
from persistence.backup.manifest import BackupRefused
from persistence.folding import LOTS_MAX

LINES_MAX = 1_000_000
BAD_MAX = 100

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


class Openings(NamedTuple):
    """What a file asks for, by the number of the line. `empty`: lines that ask for nothing."""

    by_line: dict[int, Opening]
    empty: int
    bad: list[Bad]


def read(path: Path) -> Openings:
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
    return Openings(openings, empty, bad)


def shortened(bad: list[Bad]) -> list[Bad]:
    """As many as anybody reads."""
    if len(bad) <= BAD_MAX:
        return bad
    return [*bad[:BAD_MAX], (bad[BAD_MAX - 1][0], f"and no further: more than {BAD_MAX} lines are wrong")]


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
