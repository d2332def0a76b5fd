"""What is no backup, or not the journal of its manifest, is refused in words."""

import gzip
import hashlib

import msgspec
import pytest

from persistence.backup import snapshot
from persistence.backup.folder import export_folder
from persistence.backup.importing import import_backup
from persistence.backup.manifest import BackupRefused, Manifest
from persistence.backup.pages import PageWriter, begun_with, first_line
from persistence.backup.reading import Backup

pytestmark = pytest.mark.usefixtures("small_pages")


def forge(path, *, rows=lambda lines: lines, manifest=lambda manifest: manifest) -> None:
    """Write a backup again with other rows, or another manifest, and digests that fit."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    first = msgspec.json.encode(manifest(msgspec.json.decode(first_line(path), type=Manifest)))
    kept = rows([each for each in lines if each.startswith(b'{"shard"')])
    writer = PageWriter.begin(path.with_name("forged"), first, begun_with(first))
    for begin in range(0, len(kept), 10):
        writer.write(b"".join(kept[begin : begin + 10]), len(kept[begin : begin + 10]))
    writer.finish(path)


def _without(lines, number):
    return [*lines[:number], *lines[number + 1 :]]


FORGED = {
    "a changed entry": (
        {"rows": lambda lines: [each.replace(b'granted\\"', b'deducted\\"') for each in lines]},
        "does not lead to the chain head of shard 0",
    ),
    "a row less": ({"rows": lambda lines: _without(lines, 7)}, "lacks row 8 of shard 0"),
    "the last row less": ({"rows": lambda lines: lines[:-1]}, r"lacks row \d+ of shard 2"),
    "a row twice": ({"rows": lambda lines: [*lines, lines[-1]]}, "which its manifest does not name"),
    "other notes": (
        {"rows": lambda lines: [each.replace(b"image-1", b"image-9") for each in lines]},
        "has other notes than were written",
    ),
    "notes less": (
        {"rows": lambda lines: [each.split(b',"erased"')[0].rstrip(b"}\n") + b"}\n" for each in lines]},
        "lacks the notes of row",
    ),
    "another ledger": (
        {"manifest": lambda m: msgspec.structs.replace(m, ledger="0" * 8 + "-0000-0000-0000-" + "0" * 12)},
        "does not lead to the chain head",
    ),
    "another format": ({"manifest": lambda m: msgspec.structs.replace(m, format=2)}, "has format 2; this"),
    "a later schema": (
        {"manifest": lambda m: msgspec.structs.replace(m, schema="9999_later.sql")},
        "made by a later release: its database had 9999_later.sql",
    ),
    "a shard less": (
        {"manifest": lambda m: msgspec.structs.replace(m, shards=m.shards[1:])},
        "its shards are not 0, 1, 2",
    ),
    "a head that is none": (
        {
            "manifest": lambda m: msgspec.structs.replace(
                m, shards=[msgspec.structs.replace(each, head="x") for each in m.shards]
            )
        },
        "is not a backup of Lastro: Expected `str` matching regex",
    ),
    "another cursor": (
        {
            "manifest": lambda m: msgspec.structs.replace(
                m, shards=[msgspec.structs.replace(each, cursor=each.cursor - 1) for each in m.shards]
            )
        },
        "which its manifest does not name|does not lead",
    ),
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_backup_that_is_not_the_journal_of_its_manifest_is_refused(backup, tmp_path, how):
    changes, said = FORGED[how]
    path = tmp_path / "a.gz"
    forge(path, **changes)
    with pytest.raises(BackupRefused, match=said):
        Backup(path).check()


async def test_a_backup_that_is_cut_off_anywhere_is_refused(backup, tmp_path):
    whole = (tmp_path / "a.gz").read_bytes()
    end = whole.rindex(b"\x1f\x8b\x08")  # the last member, with nothing but the last line
    for size in (0, 5, 100, len(whole) // 3, len(whole) // 2, end, len(whole) - 60, len(whole) - 1):
        (tmp_path / "cut.gz").write_bytes(whole[:size])
        with pytest.raises(BackupRefused, match=r"damaged|cut off|not a backup"):
            Backup(tmp_path / "cut.gz").check()
    (tmp_path / "more.gz").write_bytes(whole + gzip.compress(b"more"))
    with pytest.raises(BackupRefused, match="does not end as it should"):
        Backup(tmp_path / "more.gz").check()


async def test_a_page_whose_digest_is_another_is_refused_before_it_is_used(backup, second, redis, tmp_path):
    text = gzip.decompress((tmp_path / "a.gz").read_bytes())
    digest = hashlib.sha256(b"x").hexdigest()
    lines = text.splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if line.startswith(b'{"page":2'))
    lines[number] = b'{"page":2,"sha256":"%s"}\n' % digest.encode()
    (tmp_path / "wrong.gz").write_bytes(gzip.compress(b"".join(lines)))
    wrong = Backup(tmp_path / "wrong.gz")
    with pytest.raises(BackupRefused, match=r"Page 2 of .* was changed: its sha256 is"):
        await import_backup(second, redis, wrong)
    assert await second.fetchval("SELECT count(*) FROM journal") == snapshot.PAGE_ROWS
    await import_backup(second, redis, backup)


async def test_what_is_no_backup_is_refused_in_words(tmp_path):
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(BackupRefused, match="is not a backup of Lastro"):
        Backup(tmp_path / "letter")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BackupRefused, match="it is no backup, or its export was not finished"):
        Backup(tmp_path / "folder")
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"[]\n"))
    with pytest.raises(BackupRefused, match="is not a backup of Lastro: Expected `object`"):
        Backup(tmp_path / "list.gz")


async def test_a_file_that_is_missing_in_a_folder_is_named(connection, tmp_path):
    manifest = await export_folder(connection, tmp_path / "f")
    (tmp_path / "f" / manifest.files[0].name).unlink()
    with pytest.raises(BackupRefused, match=r"jsonl.gz is missing"):
        Backup(tmp_path / "f").check()
