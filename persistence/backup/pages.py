"""Pages of lines in a compressed file: written so that a cut leaves whole pages, read so that no line is used
before its page has been proved.

Each page is a gzip member of its own and ends with a line that carries the digest of everything above it:
`sha256(the digest before, 32 bytes || the page's rows)`. `zcat` shows all of it.
"""

import fcntl
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from persistence.backup.manifest import BackupRefused, End, Page, Row, encode

LEVEL = 3
"""Of zlib: twice as fast as 6, and a tenth larger."""

PAGE_BYTES_MAX = 256 * 1024 * 1024

_row = msgspec.json.Decoder(Row).decode
_page = msgspec.json.Decoder(Page).decode
_end = msgspec.json.Decoder(End).decode


class Written(Struct, frozen=True):
    """How far a file was written: enough to go on with it."""

    offset: int
    pages: int
    entries: int
    digest: bytes


def begun_with(text: bytes) -> bytes:
    """The digest of a file before its first page. `text`: its manifest's line, or its name in a folder."""
    return hashlib.sha256(text).digest()


class PageWriter:
    """Appends to a file that nobody else writes. Blocks; `close` does not finish it, `finish` does."""

    def __init__(self, path: Path, written: Written) -> None:
        """Goes on where `written` ended; whatever stands after that is cut off.

        Raises:
            BackupRefused: Another process is at it, or was a moment ago.
            OSError: It is a link, or somebody else's.
        """
        self.written = written
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._claim()
        except BaseException:
            os.close(self._file)
            raise
        os.ftruncate(self._file, written.offset)
        os.lseek(self._file, written.offset, os.SEEK_SET)

    def _claim(self) -> None:
        busy = BackupRefused(f"Another process is writing {self._path} now.")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        found = os.fstat(self._file)
        # It may have got its name, or have begun anew, between our opening it and having it for ourselves.
        if not found.st_nlink or found.st_size < self.written.offset or not _is_at(self._path, found):
            raise busy
        if found.st_mode & 0o077:
            os.fchmod(self._file, 0o600)

    @classmethod
    def begin(cls, path: Path, first_line: bytes | None, digest: bytes) -> "PageWriter":
        """A new file, with its first line if it has one."""
        writer = cls(path, Written(0, 0, 0, digest))
        if first_line is not None:
            writer._append(first_line + b"\n")
        return writer

    def write(self, rows: bytes, entries: int) -> None:
        """Append a page and have it on disk. `rows`: lines, each with its end."""
        digest = hashlib.sha256(self.written.digest + rows).digest()
        number = self.written.pages + 1
        self._append(rows + encode(Page(number, digest.hex())) + b"\n")
        os.fsync(self._file)
        self.written = Written(self.written.offset, number, self.written.entries + entries, digest)

    def finish(self, name: Path) -> None:
        """Write the last line, give the file its name, and let go of it."""
        self._append(encode(End(self.written.entries, self.written.digest.hex())) + b"\n")
        os.fsync(self._file)
        put_in_place(self._path, name)
        self.close()

    def close(self) -> None:
        os.close(self._file)

    def _append(self, text: bytes) -> None:
        packed = memoryview(gzip.compress(text, LEVEL, mtime=0))
        done = 0
        while done < len(packed):
            done += os.write(self._file, packed[done:])
        self.written = msgspec.structs.replace(self.written, offset=self.written.offset + len(packed))


def _is_at(path: Path, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), found)
    except FileNotFoundError:
        return False


def put_in_place(half: Path, whole: Path) -> None:
    """Give a finished file its name, so that it survives a crash of the machine."""
    half.replace(whole)
    folder = os.open(whole.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def first_line(path: Path) -> bytes:
    """The first line of a file.

    Raises:
        BackupRefused: It is not one of ours.
    """
    try:
        with gzip.open(path) as file:
            return file.readline(PAGE_BYTES_MAX).rstrip(b"\n")
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BackupRefused(f"{path} is not a backup of Lastro, or is damaged: {error}.") from error


def read_pages(path: Path, digest: bytes, *, skip_first: bool) -> Iterator[list[Row]]:
    """The rows of a file, page by page; after the last one the file is proved to be whole.

    Args:
        path: Whose pages.
        digest: Before the first page.
        skip_first: The first line is a manifest.

    Raises:
        BackupRefused: It is cut off or damaged. What was given before that is proved.
    """
    try:
        with gzip.open(path) as file:
            if skip_first:
                file.readline(PAGE_BYTES_MAX)
            yield from _pages(file, path, digest)
    except (gzip.BadGzipFile, zlib.error, EOFError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupRefused(f"{path} is damaged or cut off: {error}. Take another backup.") from error


def _pages(file: BinaryIO | gzip.GzipFile, path: Path, digest: bytes) -> Iterator[list[Row]]:
    number, entries, texts = 0, 0, list[bytes]()
    while line := file.readline(PAGE_BYTES_MAX):
        if line.startswith(b'{"page":'):
            number += 1
            digest = hashlib.sha256(digest + b"".join(texts)).digest()
            if _page(line) != Page(number, digest.hex()):
                raise BackupRefused(
                    f"Page {number} of {path} was changed: its sha256 is {digest.hex()}, and the file says "
                    f"{_page(line).sha256}. Take another backup."
                )
            yield list(map(_row, texts))
            entries += len(texts)
            texts.clear()
        elif line.startswith(b'{"entries":'):
            if texts or _end(line) != End(entries, digest.hex()) or file.read(1):
                raise BackupRefused(f"{path} does not end as it should. Take another backup.")
            return
        else:
            texts.append(line)
    raise BackupRefused(f"{path} is cut off after page {number}. Take another backup.")
