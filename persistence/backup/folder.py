"""A folder with the journal in a file for each day (UTC): what is over is not written again.

`manifest.json` is replaced when everything that it names is there, so that an export that is killed leaves
the backup of before; the next one goes on after the files that this one has finished. A row that came to the
journal when its day's file was closed stands in the next file. A file that holds notes which were erased
since is written again.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec

from persistence.admission import Barrier, past
from persistence.backup import snapshot
from persistence.backup.manifest import MANIFEST, BackupRefused, FileOf, Manifest, encode, read_manifest
from persistence.backup.pages import PageWriter, begun_with, put_in_place
from persistence.pool import Connection

NOTE = f"{MANIFEST}.part"
_OURS = re.compile(r"\d{4}-\d\d-\d\d(-[0-9a-f]{12}\.jsonl\.gz|\.part)|manifest\.json(\.part|\.half)?")
_DAY = timedelta(days=1)
_OVERLAP = timedelta(hours=1)
"""How long an erasure may have been under way when a file was written."""


async def export_folder(
    connection: Connection,
    folder: Path,
    *,
    expect: Callable[[int], None] = lambda _rows: None,
    seen: Callable[[int], None] = lambda _rows: None,
    barrier: Barrier = past,
) -> Manifest:
    """Bring a folder up to this moment.

    Args:
        connection: Outside any transaction.
        folder: Made when missing; else one that an export of the same ledger has made.
        expect: Told once how many rows there are to write, about.
        seen: Told now and then how many more were.
        barrier: `after file`, `before last`; tests stop an export there.

    Raises:
        BackupRefused: The folder is another ledger's or not a backup, another export is at it, the journal
            is not the one that the folder has the beginning of, or it is not as it was written.
    """
    with _alone_in(folder):
        return await _bring_up(connection, folder, expect, seen, barrier)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two exports would each remove what the other has written and not named yet."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BackupRefused(f"Another process is writing into {folder} now.") from None
    except OSError as error:  # NFS has no locks for folders; those of the files are left
        if error.errno != errno.EBADF:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        os.close(descriptor)


async def _bring_up(
    connection: Connection,
    folder: Path,
    expect: Callable[[int], None],
    seen: Callable[[int], None],
    barrier: Barrier,
) -> Manifest:
    known = _known(folder)
    manifest = await snapshot.take(connection)
    if known is not None:
        await _demand_same(connection, folder, known, manifest)
    made = _Folder(connection, folder, manifest, seen)
    closed = [each for each in (known.files if known else []) if each.closed]
    outdated = await made.outdated(closed)
    expect(manifest.entries - sum(each.entries for each in closed if each not in outdated))
    files: list[FileOf] = []
    for number, each in enumerate(closed):
        if each in outdated:
            files.append(await made.write(each.day, each.ends, files))
            made.note([*files, *closed[number + 1 :]])
            await barrier("after file")
        else:
            files.append(each)
    while (found := await made.following(files)) is not None:
        files.append(await made.write(*found, files))
        made.note(files)
        await barrier("after file")
    await barrier("before last")
    return made.finish(files)


def _known(folder: Path) -> Manifest | None:
    """What an earlier export has finished: all of it, or some files."""
    for note in (folder / NOTE, folder / MANIFEST):
        if note.exists():
            return read_manifest(note.read_bytes(), str(note))
    if any(not _OURS.fullmatch(each.name) for each in folder.iterdir()):
        raise BackupRefused(f"{folder} is not empty and not a backup of Lastro. Name another folder.")
    return None


async def _demand_same(connection: Connection, folder: Path, known: Manifest, now: Manifest) -> None:
    if known.ledger != now.ledger:
        raise BackupRefused(
            f"{folder} is a backup of ledger {known.ledger}; this one is {now.ledger}. Name another folder."
        )
    if not await snapshot.still_there(connection, known):
        raise BackupRefused(
            f"The journal is not the one that {folder} is a backup of: it was changed, or PostgreSQL has "
            f"lost rows since. Run `lastro verify --manifest {folder}`, and name another folder."
        )


class _Folder:
    def __init__(
        self, connection: Connection, folder: Path, manifest: Manifest, seen: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._folder = folder
        self._manifest = manifest
        self._shards = manifest.shards
        self._seen = seen

    ERASED = "SELECT shard, seq FROM erasures WHERE erased_at >= $1"

    async def outdated(self, files: Sequence[FileOf]) -> list[FileOf]:
        """The files that may hold notes which were erased after they were written."""
        found = []
        before = [0] * len(self._shards)
        for each in files:
            rows = await self._connection.fetch(self.ERASED, each.written_at - _OVERLAP)
            if any(before[shard] < sequence <= each.ends[shard] for shard, sequence in rows):
                found.append(each)
            before = each.ends
        return found

    FIRST = """
    SELECT min(at) AS at, count(*) FROM journal
    JOIN unnest($1::integer[], $2::bigint[]) AS wanted (shard, seq) USING (shard, seq)
    """

    LAST = "SELECT shard, max(seq) FROM journal WHERE at >= $1 AND at < $2 GROUP BY shard"

    async def following(self, files: Sequence[FileOf]) -> tuple[date, list[int]] | None:
        """The first day of what is not in `files`, and the last row of each shard up to its end."""
        ends = self._ends(files)
        left = [(each.shard, ends[each.shard] + 1) for each in self._shards if ends[each.shard] < each.cursor]
        if not left:
            return None
        row = await self._connection.fetchrow(self.FIRST, *map(list, zip(*left, strict=True)))
        assert row is not None, "an aggregate has a row"
        first, there = row
        if there != len(left):
            raise BackupRefused("A row of the journal is missing. Run `lastro verify --from 1`.")
        first = first.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        day = max(first.date(), files[-1].day + _DAY) if files else first.date()
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + _DAY
        for shard, last in await self._connection.fetch(self.LAST, first, midnight):
            ends[shard] = max(ends[shard], min(last, self._shards[shard].cursor))
        return day, ends

    async def write(self, day: date, ends: list[int], before: Sequence[FileOf]) -> FileOf:
        """One file with the rows after `before` up to `ends`."""
        written_at = await self._connection.fetchval("SELECT clock_timestamp()")
        part = self._folder / f"{day.isoformat()}.part"
        writer = PageWriter.begin(part, None, begun_with(day.isoformat().encode()))
        try:
            for shard, begin, end in zip(self._shards, self._ends(before), ends, strict=True):
                await self._write_shard(writer, shard.shard, begin, end)
            made = FileOf(
                day=day,
                entries=writer.written.entries,
                sha256=writer.written.digest.hex(),
                ends=ends,
                closed=day < self._manifest.taken_at.astimezone(UTC).date(),
                written_at=written_at,
            )
            await asyncio.to_thread(writer.finish, self._folder / made.name)
        except BaseException:
            writer.close()
            raise
        return made

    HASH = "SELECT hash FROM journal WHERE shard = $1 AND seq = $2"

    async def _write_shard(self, writer: PageWriter, shard: int, begin: int, end: int) -> None:
        of = self._shards[shard]
        head = (
            await self._connection.fetchval(self.HASH, shard, begin)
            if begin
            else snapshot.begins(self._manifest.ledger, shard)
        )
        for first in range(begin + 1, end + 1, snapshot.PAGE_ROWS):
            last = min(first + snapshot.PAGE_ROWS - 1, end)
            records = await snapshot.read(self._connection, shard, first, last)
            text, head = snapshot.lines(shard, first, last, head, records)
            await asyncio.to_thread(writer.write, text, len(records))
            self._seen(len(records))
        if end:
            said = of.head if end == of.cursor else (await self._stored(shard, end)).hex()
            snapshot.demand_head(shard, end, head, said)

    async def _stored(self, shard: int, sequence: int) -> bytes:
        stored: bytes = await self._connection.fetchval(self.HASH, shard, sequence)
        return stored

    def note(self, files: Sequence[FileOf]) -> None:
        """Remember what is finished."""
        self._put(files, NOTE)

    def finish(self, files: Sequence[FileOf]) -> Manifest:
        """Let the manifest name these files, and remove those that it does not name any more."""
        manifest = self._put(files, MANIFEST)
        kept = {MANIFEST, *(each.name for each in files)}
        for each in list(self._folder.iterdir()):
            if each.name not in kept and _OURS.fullmatch(each.name):
                each.unlink()
        return manifest

    def _put(self, files: Sequence[FileOf], name: str) -> Manifest:
        manifest = msgspec.structs.replace(self._manifest, files=list(files))
        half = self._folder / f"{MANIFEST}.half"
        with half.open("wb") as file:
            file.write(msgspec.json.format(encode(manifest)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        put_in_place(half, self._folder / name)
        return manifest

    def _ends(self, files: Sequence[FileOf]) -> list[int]:
        return list(files[-1].ends) if files else [0] * len(self._shards)
