"""Opening balances are granted once, however often their file is brought, or none of them is."""

import pytest
from redis.asyncio import Redis

from app.ledger import keys
from persistence.backup import balances, openings
from persistence.backup.balances import open_balances
from persistence.backup.manifest import BackupRefused
from persistence.birth import give_birth
from tests.integration.backup.books import SHARDS
from tests.integration.dying import Killed

GOOD = """\
account,bucket,amount,priority,expires
ana,plan,1000,10,2099-01-01
ana,plan,30,10,2099-02-01T00:00:00+02:00
ana,extra,50,,
bob,,9007199254740991,,

eve,default,0,,
"""


@pytest.fixture
async def bring(database_url, redis_url, redis, tmp_path):
    await give_birth(database_url, redis_url, SHARDS)

    async def bring(text: str, **options):
        (tmp_path / "b.csv").write_bytes(text.encode())
        return await open_balances(database_url, redis_url, tmp_path / "b.csv", **options)

    return bring


async def _forget(redis: Redis) -> None:
    """What Redis does with keys after a day."""
    for shard in range(SHARDS):
        async for key in redis.scan_iter(
            match=keys.operation(shard, "a", "", "").split("operation")[0] + "op*"
        ):
            await redis.delete(key)


LOTS = """
SELECT account, bucket, priority, available FROM lots ORDER BY account, priority, bucket, expires_at_ms
"""


async def test_balances_are_granted_to_their_buckets_and_lots(bring, database, journal_all):
    opened = await bring(GOOD)
    assert (opened.granted, opened.there, opened.empty, opened.bad) == (4, 0, 1, [])
    await journal_all()
    assert [tuple(row) for row in await database.fetch(LOTS)] == [
        ("ana", "plan", 10, 1000),
        ("ana", "plan", 10, 30),
        ("ana", "extra", 100, 50),
        ("bob", "default", 100, 2**53 - 1),
    ]


async def test_a_file_that_was_cut_off_and_is_brought_again_grants_the_rest(
    bring, database, journal_all, redis, monkeypatch
):
    left = 2

    def dies(_lines: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Killed

    monkeypatch.setattr(balances, "AT_ONCE", 1)
    with pytest.raises(Killed):
        await bring(GOOD, seen=dies)
    spreadsheet = "\ufeff" + GOOD.replace("\n", "\r\n").replace("ana,extra", '"ana","extra"')
    again = await bring(spreadsheet)
    assert (again.granted, again.bad) == (4, [])  # two replayed under their keys: not journaled yet
    await journal_all()
    assert await database.fetchval("SELECT count(*) FROM journal") == 4
    await _forget(redis)
    later = await bring(GOOD + "new,default,5,,\n")
    assert (later.granted, later.there, later.bad) == (1, 4, [])
    await journal_all()
    assert await database.fetchval("SELECT count(*) FROM journal") == 5


async def test_a_file_may_be_brought_again_when_what_it_granted_has_expired(
    bring, database, journal_all, redis, monkeypatch
):
    await bring(GOOD)
    await journal_all()
    await _forget(redis)

    async def next_century(_redis: Redis) -> int:
        return 5_000_000_000_000

    monkeypatch.setattr(balances, "earliest_ms", next_century)
    later = await bring(GOOD)
    assert (later.granted, later.there, later.bad) == (0, 4, [])
    later = await bring(GOOD + "new,plan,5,,2099-01-01\nmax,x,1,,\n")
    assert later.bad == [(8, "expires 2099-01-01T00:00:00+00:00 is past")]
    assert not later.begun


async def test_a_line_that_was_changed_since_is_named_and_nothing_is_granted(
    bring, database, journal_all, redis
):
    await bring(GOOD)
    await journal_all()
    await _forget(redis)
    changed = await bring(GOOD.replace("50,,", "51,,") + "new,default,5,,\n")
    assert not changed.begun
    assert changed.bad == [
        (4, "ana: bucket extra was opened before with 50; a line is granted once, and not changed afterwards")
    ]
    await journal_all()
    assert await database.fetchval("SELECT count(*) FROM journal") == 4


async def test_a_line_changed_within_the_day_is_refused_by_its_key(bring, database, journal_all):
    await bring(GOOD)
    changed = await bring(GOOD.replace("50,,", "51,,"))
    assert changed.begun
    assert changed.bad == [(4, "ana: idempotency_mismatch")]
    await journal_all()
    assert await database.fetchval("SELECT count(*) FROM journal") == 4


WRONG = {
    "an a,plan,1,,": "account 'an a' is not 1 to 128 of ASCII letters, digits",
    ",plan,1,,": "account '' is not",
    "ana,a b,1,,": "bucket 'a b' is not 1 to 64",
    "ana,overdraft,1,,": "bucket overdraft is reserved",
    "ana,plan,1.5,,": "amount '1.5' is not a whole number",
    "ana,plan,-1,,": "amount '-1' is not a whole number",
    "ana,plan,,,": "amount '' is not a whole number",
    "ana,plan,\uff19,,": "amount '\uff19' is not a whole number",
    "ana,plan,9007199254740992,,": "amount 9007199254740992 is more than 9007199254740991",
    "ana,plan,1,x,": "priority 'x' is not a whole number",
    "ana,plan,1,1000001,": "priority 1000001 is more than 1000000",
    "ana,plan,1,,tomorrow": "expires 'tomorrow' is not a date or an RFC 3339 time",
    "ana,plan,1,,2099-01-01T00:00:00": "expires '2099-01-01T00:00:00' lacks its offset",
    "ana,plan,1,,2001-01-01": "expires 2001-01-01T00:00:00+00:00 is past",
    "ana,plan,1,,1970-01-01": "expires 1970-01-01 is past",
    "ana,plan,1,,0001-01-01T00:00:00+14:00": "expires 0001-01-01T00:00:00+14:00 is past",
    "   ": "account '' is not",
    "ana,plan,1,,,": "more fields than the first line has",
    "ana,plan,1,,\nana,plan,2,,": "account, bucket and expiry are those of line 3",
    "ana,plan,1,1,\nana,plan,2,2,2099-01-01": "bucket plan of ana has another priority in a line before",
    "ana,plan,9007199254740991,,\nana,x,1,,": "ana would have more than 9007199254740991",
    "\n".join(f"ana,b{number},1,," for number in range(65)): "ana would have more than 64 lots",
}


async def test_bad_lines_are_named_and_nothing_is_granted(bring, database, redis):
    head = "account,bucket,amount,priority,expires\nbob,plan,1,,\n"
    before = await redis.dbsize()
    for lines, said in WRONG.items():
        opened = await bring(head + lines + "\n")
        assert not opened.begun
        ((line, why),) = opened.bad
        assert line == 2 + len(lines.splitlines())
        assert why.startswith(said)
    assert await redis.dbsize() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must name its columns: account,bucket,amount"),
        ("account,amount\n", "must name its columns"),
        ("account,bucket,amount,colour\n", "must name its columns"),
        ("account,bucket,amount,amount\n", "must name its columns"),
        ('account,bucket,amount\n"ana,plan,1\n', "cannot be read: unexpected end of data"),
    ],
)
async def test_a_file_of_another_shape_is_refused(bring, text, said):
    with pytest.raises(BackupRefused, match=said):
        await bring(text)


async def test_errors_end_somewhere(bring, monkeypatch):
    monkeypatch.setattr(openings, "BAD_MAX", 3)
    opened = await bring("account,bucket,amount\n" + "ana,plan,x\n" * 10)
    assert [line for line, _ in opened.bad] == [2, 3, 4, 4]


async def test_a_ledger_that_stops_answering_is_said_and_gone_on_with(
    bring, database, database_url, redis_url, journal_all, monkeypatch
):
    monkeypatch.setattr(balances, "AT_ONCE", 1)
    await database.execute("UPDATE shards SET fence = 'by hand', fenced_at = now(), fenced_by = 'operator'")
    with pytest.raises(BackupRefused, match=r"stopped taking grants \(ledger_fenced: by hand\)"):
        await bring(GOOD)
