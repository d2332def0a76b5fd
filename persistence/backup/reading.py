"""A backup as it is read: nothing of it is given before it has been proved.

Digests prove that pages are as they were written, the chain that they are the journal which the manifest
names: every shard's rows 1, 2, 3, ... up to its cursor, leading to its head.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.ledger.entries import FORMAT as ENTRY_FORMAT
from app.ledger.entries import Entry, chained
from persistence.backup.manifest import MANIFEST, BackupRefused, Manifest, Row, decode_entry, read_manifest
from persistence.backup.pages import begun_with, first_line, read_pages
from persistence.backup.snapshot import begins
from persistence.migrate import shipped
from persistence.rows import are_its_notes


class Proved(NamedTuple):
    """A row, its entry, and the chain's head after it."""

    row: Row
    entry: Entry
    head: bytes


class Backup:
    """A file, or a folder of files (itself or its manifest). Blocks while it reads."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest.

        Raises:
            BackupRefused: It is no backup, or not one that this release can read.
            OSError: It is not there.
        """
        path = path.parent if path.name == MANIFEST else path
        self._path = path
        self._is_folder = path.is_dir()
        if self._is_folder and not (path / MANIFEST).exists():
            raise BackupRefused(f"{path} has no {MANIFEST}: it is no backup, or its export was not finished.")
        self._line = (path / MANIFEST).read_bytes() if self._is_folder else first_line(path)
        self.manifest: Manifest = read_manifest(self._line, str(path))
        if self.manifest.schema not in {each.name for each in shipped()}:
            raise BackupRefused(
                f"{path} was made by a later release: its database had {self.manifest.schema}, of which this "
                "release knows nothing. Use that release, or a later one."
            )

    def check(self, seen: Callable[[int], None] = lambda _rows: None) -> None:
        """Read all of it, and prove that it is whole and true.

        Raises:
            BackupRefused: It is not.
        """
        for page in self.pages():
            seen(len(page))

    def pages(self) -> Iterator[list[Proved]]:
        """All rows, each shard's in order; each page is of one shard. At the end the whole is proved.

        Raises:
            BackupRefused: What comes next is damaged, missing, or not of this journal.
        """
        ledger, shards = self.manifest.ledger, self.manifest.shards
        heads = [begins(ledger, each.shard) for each in shards]
        at = [0] * len(shards)
        for rows in self._pages():
            page = []
            for row in rows:
                shard, sequence = row.shard, row.seq
                if not 0 <= shard < len(shards) or not at[shard] < sequence <= shards[shard].cursor:
                    raise self._strange(
                        f"has row {sequence} of shard {shard}, which its manifest does not name"
                    )
                if sequence != at[shard] + 1:
                    raise self._strange(f"lacks row {at[shard] + 1} of shard {shard}")
                at[shard] = sequence
                heads[shard] = chained(heads[shard], shard, sequence, row.entry.encode())
                page.append(Proved(row, self._entry(row), heads[shard]))
            yield page
        for each in shards:
            if at[each.shard] != each.cursor:
                raise self._strange(f"lacks row {at[each.shard] + 1} of shard {each.shard}")
            if heads[each.shard].hex() != each.head:
                raise self._strange(f"does not lead to the chain head of shard {each.shard} in its manifest")

    def _entry(self, row: Row) -> Entry:
        which = f"row {row.seq} of shard {row.shard}"
        try:
            entry = decode_entry(row.entry)
        except msgspec.MsgspecError as error:
            raise self._strange(f"has an entry that cannot be read in {which}: {error}") from error
        if entry.format != ENTRY_FORMAT:
            raise self._strange(f"has an entry of format {entry.format} in {which}")
        if row.notes is not None:
            if row.erased is not None or not are_its_notes(entry, row.notes):
                raise self._strange(f"has other notes than were written in {which}")
        elif entry.notes is not None and row.erased is None:
            raise self._strange(f"lacks the notes of {which}")
        return entry

    def _pages(self) -> Iterator[list[Row]]:
        if not self._is_folder:
            yield from read_pages(self._path, begun_with(self._line), skip_first=True)
            return
        for each in self.manifest.files:
            path, entries = self._path / each.name, 0
            if not path.exists():
                raise BackupRefused(f"{path} is missing. Take another backup.")
            for rows in read_pages(path, begun_with(each.day.isoformat().encode()), skip_first=False):
                entries += len(rows)
                yield rows
            if entries != each.entries:
                raise self._strange(
                    f"has {entries} rows in {each.name}, and its manifest says {each.entries}"
                )

    def _strange(self, why: str) -> BackupRefused:
        return BackupRefused(f"{self._path} {why}. Take another backup.")
