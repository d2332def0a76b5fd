"""One file with the whole journal, written so that it may be killed anywhere and goes on where it was.

Beside the unfinished file stands a note of how far it is, written after each page. It gets its name when
everything in it is on disk.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from asyncpg import Record
from msgspec import Struct

from persistence.admission import Barrier, past
from persistence.backup import snapshot
from persistence.backup.manifest import BackupRefused, Manifest, encode
from persistence.backup.pages import PageWriter, Written, begun_with
from persistence.pool import Connection

FOR_EVER = float("inf")


class _State(Struct, frozen=True):
    """How far an unfinished file is: `sequence` of `shard` is in it, and so are all shards before that one.

    `erasures`: how many notes had been erased when it was begun.
    """

    manifest: Manifest
    erasures: int
    written: Written
    shard: int
    sequence: int
    head: bytes


class FileExport:
    """An export into one file. `begin`, then `advance` until it says that all is done.

    Args:
        connection: Outside any transaction.
        path: Where the backup is to be; nothing may be there yet.
        seen: Told how many rows were written more.
        barrier: `begun`, `after page`, `before end`, `after end`; tests stop an export there.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        *,
        seen: Callable[[int], None] = lambda _rows: None,
        barrier: Barrier = past,
    ) -> None:
        self._connection = connection
        self._path = path
        self._part = Path(f"{path}.part")
        self._note = Path(f"{path}.part.json")
        self._half = Path(f"{path}.part.json.half")
        self._seen = seen
        self._barrier = barrier
        self._state: _State
        self._writer: PageWriter | None = None
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="export")

    async def begin(self) -> Manifest:
        """Go on with an unfinished file of this journal, or begin a new one.

        Raises:
            BackupRefused: Something is there already, or there is no ledger.
        """
        self._demand_free()
        state = self._read_note()
        if state is None or not await self._can_go_on(state):
            state = await self._afresh()
        else:
            self._writer = PageWriter(self._part, state.written)
            self._seen(state.written.entries)
        self._state = state
        if self._path.exists():  # by whoever finished while we looked
            self.discard()
            self._demand_free()
        await self._barrier("begun")
        return state.manifest

    def _demand_free(self) -> None:
        if self._path.exists():
            raise BackupRefused(f"{self._path} is there already. Name another file, or remove it.")

    async def advance(self, seconds: float = FOR_EVER) -> bool:
        """Write pages for about so long. Returns whether the backup is finished and in its place.

        Raises:
            BackupRefused: The journal is not as it was written.
        """
        ends, loop = time.monotonic() + seconds, asyncio.get_running_loop()
        place = self._following(self._state.shard, self._state.sequence)
        records = await self._fetch(place)
        while place is not None:
            state, text = self._fold(place, records)
            writing = loop.run_in_executor(self._hand, self._write, state, text, len(records))
            try:
                place = self._following(state.shard, state.sequence)
                records = await self._fetch(place)
            finally:
                await writing
            await self._barrier("after page")
            if time.monotonic() >= ends:
                return False
        if await snapshot.erasures(self._connection) != self._state.erasures:
            self._state = await self._afresh()  # what is written may have notes that are to be nowhere
            return await self.advance(max(0.0, ends - time.monotonic()))
        await self._barrier("before end")
        await loop.run_in_executor(self._hand, self._finish)
        return True

    def close(self) -> None:
        """Leave an unfinished file as it is; another export goes on with it. A page that is being written,
        also by an export that was cancelled, is finished first.
        """
        self._hand.shutdown()
        self._let_go()

    def discard(self) -> None:
        """Remove an unfinished file."""
        self.close()
        for each in (self._part, self._note, self._half):
            with contextlib.suppress(OSError):
                each.unlink()

    def _let_go(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def manifest(self) -> Manifest:
        """Of what is being written; another one when an erasure made it begin again."""
        return self._state.manifest

    @property
    def entries(self) -> int:
        """How many rows the backup has so far."""
        return self._state.written.entries

    def _read_note(self) -> _State | None:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=_State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    async def _can_go_on(self, state: _State) -> bool:
        return (
            self._part.exists()
            and self._part.stat().st_size >= state.written.offset
            and (await snapshot.take(self._connection)).ledger == state.manifest.ledger
            and await snapshot.still_there(self._connection, state.manifest)
            and await snapshot.erasures(self._connection) == state.erasures
        )

    async def _afresh(self) -> _State:
        self._let_go()
        erasures = await snapshot.erasures(self._connection)
        manifest = await snapshot.take(self._connection)
        line = encode(manifest)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = PageWriter.begin(self._part, line, begun_with(line))
        state = _State(manifest, erasures, self._writer.written, -1, 0, b"")
        self._keep(state)
        return state

    def _following(self, shard: int, sequence: int) -> tuple[int, int, int] | None:
        """Shard, first and last sequence of the page after `sequence` of `shard`; `None` at the end."""
        shards = self._state.manifest.shards
        if shard >= 0 and sequence < shards[shard].cursor:
            return shard, sequence + 1, min(sequence + snapshot.PAGE_ROWS, shards[shard].cursor)
        for each in shards[shard + 1 :]:
            if each.cursor:
                return each.shard, 1, min(snapshot.PAGE_ROWS, each.cursor)
        return None

    async def _fetch(self, place: tuple[int, int, int] | None) -> list[Record]:
        return [] if place is None else await snapshot.read(self._connection, *place)

    def _fold(self, place: tuple[int, int, int], records: list[Record]) -> tuple[_State, bytes]:
        """The state after a page, but for what only its writer knows, and the page's text."""
        shard, first, last = place
        manifest = self._state.manifest
        head = snapshot.begins(manifest.ledger, shard) if first == 1 else self._state.head
        text, head = snapshot.lines(shard, first, last, head, records)
        if last == manifest.shards[shard].cursor:
            snapshot.demand_head(shard, last, head, manifest.shards[shard].head)
        state = msgspec.structs.replace(self._state, shard=shard, sequence=last, head=head)
        return state, text

    def _write(self, state: _State, text: bytes, entries: int) -> None:
        assert self._writer is not None
        self._writer.write(text, entries)
        self._state = msgspec.structs.replace(state, written=self._writer.written)
        self._keep(self._state)
        self._seen(entries)

    def _keep(self, state: _State) -> None:
        self._half.write_bytes(encode(state))
        self._half.replace(self._note)

    def _finish(self) -> None:
        assert self._writer is not None
        self._writer.finish(self._path)
        self._writer = None
        self._note.unlink(missing_ok=True)


async def export(
    connection: Connection,
    path: Path,
    *,
    expect: Callable[[int], None] = lambda _rows: None,
    seen: Callable[[int], None] = lambda _rows: None,
    barrier: Barrier = past,
) -> Manifest:
    """Back the whole journal up into one file, or go on with that; see `FileExport`."""
    exporting = FileExport(connection, path, seen=seen, barrier=barrier)
    try:
        manifest = await exporting.begin()
        expect(manifest.entries)
        await exporting.advance()
    finally:
        exporting.close()
    return exporting.manifest
