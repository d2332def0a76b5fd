"""What an import makes is the ledger that was exported, or nothing that could be served."""

import gzip
import hashlib

import msgspec
import pytest

from app.ledger import keys
from app.ledger.entries import seal
from app.ledger.errors import Unavailable
from app.ledger.operations import Grant
from persistence.admission import admit
from persistence.backup import snapshot
from persistence.backup.drill import Willing, faults
from persistence.backup.export import export
from persistence.backup.folder import export_folder
from persistence.backup.importing import BEGUN, DONE, import_backup
from persistence.backup.manifest import BackupRefused, Manifest
from persistence.backup.pages import PageWriter, begun_with, first_line
from persistence.backup.reading import Backup
from persistence.birth import BirthRefused, give_birth
from persistence.drain import drain
from persistence.migrate import migrate
from persistence.pool import open_pool
from persistence.restore import restore
from persistence.verify import verify
from tests.integration.backup.books import SHARDS, said_by
from tests.integration.dying import Killed, dies_at
from tests.integration.ledgers import process
from tests.integration.streams import Caller


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(snapshot, "PAGE_ROWS", 40)


@pytest.fixture
async def backup(connection, tmp_path) -> Backup:
    """Of a journal in which some notes are erased."""
    await connection.execute(
        """
        WITH gone AS (DELETE FROM notes WHERE seq < 20 RETURNING shard, seq)
        INSERT INTO erasures (shard, seq, by, reason) SELECT shard, seq, 'key:ops', 'asked to' FROM gone
        """
    )
    await export(connection, tmp_path / "a.gz")
    return Backup(tmp_path / "a.gz")


@pytest.mark.parametrize("form", [export, export_folder])
async def test_an_imported_ledger_is_the_exported_one(connection, backup, second, redis, tmp_path, form):
    await form(connection, tmp_path / "b")
    again = Backup(tmp_path / "b")
    told = []
    again.check(told.append)
    await import_backup(second, redis, again, seen=told.append)
    assert await said_by(second) == await said_by(connection)
    assert sum(told) == 2 * again.manifest.entries
    verdict = await verify(second, since=1)
    assert (verdict.findings, verdict.erased) == (
        [],
        await connection.fetchval("SELECT count(*) FROM erasures"),
    )
    standings = await second.fetch("SELECT fence, fenced_by, incarnation FROM shards")
    assert {(row["fence"], row["fenced_by"]) for row in standings} == {(DONE, "restore")}
    assert min(row["incarnation"] for row in standings) > 1_000_000
    assert await redis.dbsize() == 0


STEPS = [("after founding", 1), ("after page", 1), ("after page", 4), ("before birth", 1)]


@pytest.mark.parametrize(("step", "time"), STEPS)
async def test_an_import_that_was_killed_is_begun_again(
    connection, backup, second, second_url, redis, redis_url, step, time
):
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at(step, time))
    assert await second.fetchval("SELECT born FROM ledger") is False
    with pytest.raises(BirthRefused, match="was begun and not finished"):
        await give_birth(second_url, redis_url, SHARDS)
    await import_backup(second, redis, backup)
    assert await said_by(second) == await said_by(connection)


async def test_an_import_that_is_done_changes_nothing_when_it_is_repeated(backup, second, redis):
    await import_backup(second, redis, backup)
    before = await said_by(second)
    await import_backup(second, redis, backup)
    assert await said_by(second) == before


@pytest.mark.parametrize("step", ["after claim", "after removal", "after load", "after comparison"])
async def test_an_import_killed_while_redis_is_loaded_goes_on_with_that(
    connection, backup, second, second_url, redis, redis_url, tmp_path, step
):
    onlooker = Willing(lambda _count: None)
    await import_backup(second, redis, backup)
    with pytest.raises(Killed):
        await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker, barrier=dies_at(step))
    await import_backup(second, redis, backup)
    restored = await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
    assert faults(restored) == []
    assert await said_by(second) == await said_by(connection)
    with pytest.raises(BackupRefused, match="in use"):
        await import_backup(second, redis, backup)


async def test_a_later_backup_may_go_on_with_an_import_an_earlier_one_may_not(
    connection, backup, second, redis, tmp_path
):
    shorter = Backup(tmp_path / "a.gz")
    shards = [msgspec.structs.replace(each, cursor=3) for each in backup.manifest.shards]
    shorter.manifest = msgspec.structs.replace(backup.manifest, shards=shards)
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at("before birth"))
    with pytest.raises(BackupRefused, match="was of a later backup"):
        await import_backup(second, redis, shorter)


STRANGERS = {
    "a ledger with entries": "moved",
    "a Redis of another ledger": "stranger",
    "a Redis in which something is": "something",
    "a Redis with credits that are not journaled yet": "unjournaled",
}


@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_ledger_in_use_is_refused_and_left_as_it_was(
    backup, second, second_url, redis, redis_url, connection, who
):
    if who == "stranger":
        await redis.hset(keys.LEDGER, "id", "another")
    elif who == "something":
        await redis.set(keys.account(1, "ana"), "{}")
    elif who == "unjournaled":
        await give_birth(second_url, redis_url, SHARDS)
        async with await open_pool(second_url, connections_max=2) as pool:
            await Caller(redis, await admit(pool, redis)).grant(1)
    target = connection if who == "moved" else second
    before = await said_by(target) if who in ("moved", "unjournaled") else None
    keys_before = await redis.dbsize()
    with pytest.raises(BackupRefused, match=r"is in use|holds a ledger that is not the one"):
        await import_backup(target, redis, backup)
    if before:
        assert await said_by(target) == before
    assert await redis.dbsize() == keys_before


@pytest.mark.parametrize("step", ["after fence", "after clearing", "after founding"])
async def test_a_ledger_that_was_founded_and_never_used_makes_room(
    connection, backup, second, second_url, redis, redis_url, step
):
    await give_birth(second_url, redis_url, SHARDS)
    async with await open_pool(second_url, connections_max=2) as pool:
        await admit(pool, redis)
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at(step))
    await import_backup(second, redis, backup)
    assert await said_by(second) == await said_by(connection)
    assert await redis.dbsize() == 0


async def test_a_ledger_that_was_founded_with_other_shards_stays(
    backup, second, second_url, redis, redis_url
):
    await give_birth(second_url, redis_url, 5)
    with pytest.raises(
        BackupRefused, match="The backup has 3 shards, and the ledger that was founded here has"
    ):
        await import_backup(second, redis, backup)
    assert await second.fetchval("SELECT count(*) FROM shards WHERE fence IS NULL") == 5


async def test_whoever_uses_a_ledger_at_the_last_moment_keeps_it(
    backup, second, second_url, redis, redis_url
):
    await give_birth(second_url, redis_url, SHARDS)
    async with await open_pool(second_url, connections_max=2) as pool:
        caller = Caller(redis, await admit(pool, redis))
        looks = 0

        class Late:
            """Redis, in which credits are granted right after it was looked at for the first time."""

            def __getattr__(self, name):
                return getattr(redis, name)

            async def scan_iter(self, **options):
                nonlocal looks
                looks += 1
                found = [key async for key in redis.scan_iter(**options)]
                for key in found:
                    yield key
                if looks == 1:
                    await caller.grant(1)

        with pytest.raises(BackupRefused, match="in use"):
            await import_backup(second, Late(), backup)
        reply = await caller.call([Grant(shard=1, account="ana1", amount=1)])
        assert reply.results[0].word == "ledger_fenced"
    assert looks == 2
    assert await redis.hget(keys.meta(1), "sequence") == b"1"


async def test_another_import_is_not_gone_on_with(connection, backup, second, redis, tmp_path):
    with pytest.raises(Killed):
        await import_backup(second, redis, backup, barrier=dies_at("after page"))
    backup.manifest = msgspec.structs.replace(backup.manifest, ledger="0" * 8 + "-0000-0000-0000-" + "0" * 12)
    with pytest.raises(BackupRefused, match=r"An import of ledger .* was begun"):
        await import_backup(second, redis, backup)
    assert await second.fetchval("SELECT DISTINCT fence FROM shards") == BEGUN


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
    assert await second.fetchval("SELECT count(*) FROM journal") == 40
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


async def test_an_empty_ledger_can_be_backed_up_and_brought_back(
    second, second_url, redis, redis_url, empty_database_url, tmp_path
):
    ledger = await give_birth(second_url, redis_url, SHARDS)
    await export(second, tmp_path / "a.gz")
    await migrate(empty_database_url)
    await redis.flushall()
    async with await open_pool(empty_database_url) as pool, pool.acquire() as connection:
        await import_backup(connection, redis, Backup(tmp_path / "a.gz"))
        assert await connection.fetchval("SELECT id FROM ledger WHERE born") == ledger


async def test_what_is_at_its_limits_comes_back_exactly(
    second, second_url, redis, redis_url, empty_database_url, tmp_path
):
    """One shard; the largest balance, as many lots as there may be, and text that JSON has to escape."""
    await give_birth(second_url, redis_url, 1)
    noted = seal(reason='\u2028\U0001f600 \\ " \x00 \x7f \ud7ff \'; DROP TABLE notes; -- {"shard":0')
    lots = [Grant(shard=0, account="eve", amount=1, bucket=f"b{each}", open=True) for each in range(64)]
    grants = [
        Grant(shard=0, account="ana", amount=2**53 - 1, open=True, notes=noted.text, notes_hash=noted.hash),
        *lots,
        Grant(shard=0, account="eve", amount=1, bucket="one too many"),
    ]
    async with await open_pool(second_url, connections_max=2) as pool:
        reply = await Caller(redis, await admit(pool, redis)).call(grants)
    assert [type(each).__name__ for each in reply.results] == ["Applied"] * 65 + ["Declined"]
    while await second.fetchval("SELECT cursor FROM shards") < 65:
        await drain(second_url, redis_url, 0.15, keep=None)
    await export(second, tmp_path / "a.gz")
    await redis.flushall()
    await migrate(empty_database_url)
    async with await open_pool(empty_database_url) as pool, pool.acquire() as connection:
        await import_backup(connection, redis, Backup(tmp_path / "a.gz"))
        assert await said_by(connection) == await said_by(second)
    onlooker = Willing(lambda _count: None)
    restored = await restore(empty_database_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
    assert faults(restored) == []


async def test_a_process_that_runs_while_its_unused_ledger_makes_room_grants_nothing_in_the_new_one(
    connection, backup, second, second_url, redis, redis_url, tmp_path
):
    await give_birth(second_url, redis_url, SHARDS)
    grant = Grant(account="ana", amount=5)
    async with await open_pool(second_url) as pool, process(pool, redis_url, seconds=0.5) as ledger:

        async def meanwhile(step: str) -> None:
            with pytest.raises(Unavailable):
                await ledger.grant(grant)

        await import_backup(second, redis, backup, barrier=meanwhile)
        assert await said_by(second) == await said_by(connection)
        onlooker = Willing(lambda _count: None)
        restored = await restore(second_url, redis_url, salvage=tmp_path / "s", watch=onlooker)
        assert faults(restored) == []
        with pytest.raises(Unavailable):
            await ledger.grant(grant)
    assert await said_by(second) == await said_by(connection)
    sequences = [int(await redis.hget(keys.meta(shard), "sequence")) for shard in range(SHARDS)]
    assert sequences == [each.cursor for each in backup.manifest.shards]
