"""What a backup says of itself: whose journal it is, how far it goes, and the chain heads that prove it.

A backup is JSON in lines, compressed with gzip in members that stand for themselves. The first line of a file
is its manifest; a folder has it beside its files, in `manifest.json`.
"""

from datetime import date, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from app.ledger.entries import Entry
from app.ledger.shards import SHARDS_MAX

FORMAT = 1
MANIFEST = "manifest.json"


_Count = Annotated[int, Meta(ge=0)]
_Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


class BackupRefused(Exception):
    """A backup cannot be taken or used as it is; the text says why and what to do."""


class ShardOf(Struct, frozen=True):
    """Where a shard stood: its row of `shards`. `head` is 64 hex digits."""

    shard: _Count
    cursor: _Count
    bytes: _Count
    link: str
    head: _Digest
    incarnation: _Count


class FileOf(Struct, frozen=True, kw_only=True):
    """A file of a folder. It goes on where the one before it ended, and ends, for each shard, at `ends`.

    `closed`: the day was over, and nothing is added to it any more. `sha256`: its last page's.
    """

    day: date
    entries: _Count
    sha256: _Digest
    ends: list[int]
    closed: bool
    written_at: datetime

    @property
    def name(self) -> str:
        """Of what is in it, so that a new file never takes the place of one that a manifest names."""
        return f"{self.day.isoformat()}-{self.sha256[:12]}.jsonl.gz"


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"format": "v"}):
    """`entries` counts the rows of all shards, `schema` names the last migration of the database.

    `files` only in folders.
    """

    lastro: Literal["backup"]
    format: int
    ledger: _Uuid
    schema: str
    taken_at: datetime
    entries: int
    shards: list[ShardOf]
    files: list[FileOf] = []


class Erased(Struct, frozen=True):
    """Notes that were erased on purpose before the backup was taken."""

    at: datetime
    by: str
    reason: str


class Row(Struct, frozen=True, omit_defaults=True):
    """A row of the journal. `entry` and `notes` are the exact texts."""

    shard: int
    seq: int
    entry: str
    notes: str | None = None
    erased: Erased | None = None


class Page(Struct, frozen=True):
    """What stands below each page: its number, and the digest of everything above it in its file."""

    page: int
    sha256: str


class End(Struct, frozen=True):
    """The last line of a file: nothing is missing."""

    entries: int
    sha256: str


decode_entry = msgspec.json.Decoder(Entry).decode
encode = msgspec.json.Encoder().encode


def read_manifest(text: bytes, where: str) -> Manifest:
    """Raises `BackupRefused` when it is none, or one that this release cannot read."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupRefused(f"{where} is not a backup of Lastro: {error}.") from error
    if manifest.format != FORMAT:
        raise BackupRefused(
            f"{where} has format {manifest.format}; this release reads {FORMAT}. Use the release that made "
            "it, or a later one."
        )
    shards = [each.shard for each in manifest.shards]
    if not 1 <= len(shards) <= SHARDS_MAX or shards != list(range(len(shards))):
        raise BackupRefused(f"{where} is not a backup of Lastro: its shards are not 0, 1, 2, ...")
    return manifest
