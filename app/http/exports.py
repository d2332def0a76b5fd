"""Transactions as files: CSV for spreadsheets, lines of JSON for programs."""

import csv
from datetime import datetime
from io import StringIO
from re import sub
from typing import Any, Literal

import msgspec
from msgspec import Struct

from app.http import answers
from app.http.streamed import Pieces, Streamed
from app.http.times import iso
from app.reports import Transaction, Transactions

Format = Literal["csv", "jsonl"]
MEDIA_TYPES: dict[Format, bytes] = {"csv": b"text/csv; charset=utf-8", "jsonl": b"application/jsonl"}
COLUMNS = (
    "id", "at", "kind", "accountId", "version", "amount", "available", "held", "reservationId", "taskId",
    "modelId", "by", "reason",
)  # fmt: skip

DESCRIBED = {
    "text/csv": "For spreadsheets: a head, then a transaction a row. Texts that begin like a formula have an"
    " apostrophe before them.",
    "application/jsonl": "For programs: a transaction a line, as a page has it.",
}


def export(found: Transactions, form: Format, account: str | None, now: datetime) -> Streamed[Any]:
    """The answer that a program or a spreadsheet keeps as a file."""
    of = sub(r"[^A-Za-z0-9.-]+", "_", account or "all")
    name = f"transactions-{of}-{now.date()}.{form}"
    disposition = (b"content-disposition", b'attachment; filename="%s"' % name.encode())
    return Streamed(as_csv(found) if form == "csv" else as_lines(found), MEDIA_TYPES[form], [disposition])


async def as_lines(found: Transactions) -> Pieces:
    """A transaction a line, as a page has it."""
    encoder = msgspec.json.Encoder()
    async for page in found:
        yield encoder.encode_lines([answers.journaled(each) for each in page])


async def as_csv(found: Transactions) -> Pieces:
    """RFC 4180, with a head and without what a spreadsheet would compute."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    async for page in found:
        writer.writerows(map(_row, page))
        yield _taken(text)
    yield _taken(text)


def _taken(text: StringIO) -> bytes:
    taken = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return taken


def _row(found: Transaction) -> tuple[object, ...]:
    entry = found.entry
    return (
        str(found.id),
        iso(entry.at_ms),
        entry.kind,
        _text(entry.account),
        entry.version,
        entry.amount,
        entry.available,
        entry.held,
        entry.reservation,
        _text(entry.task),
        _text(entry.model),
        _text(entry.by),
        _text(None if found.notes is None else _reason(found.notes).reason),
    )


class _Reason(Struct):
    reason: str | None = None


_reason = msgspec.json.Decoder(_Reason).decode

_COMPUTED = tuple("=+-@'\t\r\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula (the last four as wide letters), and the apostrophe
that keeps it from that.
"""


def _text(text: str | None) -> str | None:
    """A cell whose text is never computed: with an apostrophe before it where it might be."""
    return f"'{text}" if text is not None and text.startswith(_COMPUTED) else text
