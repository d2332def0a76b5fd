"""A drill says what came of bringing a backup back, also where something wrong was put right on the way."""

from persistence.backup import drill
from persistence.backup.export import export
from persistence.backup.reading import Backup
from persistence.session import connect


async def drilled(connection, database_url, redis_url, tmp_path) -> list[str]:
    await export(connection, tmp_path / "a.gz")
    backup = Backup(tmp_path / "a.gz")
    return await drill.drill(
        database_url, redis_url, backup, step=lambda _name: None, seen=lambda _count: None
    )


async def test_a_sound_backup_comes_back_with_nothing_to_say(
    connection, second_url, redis, redis_url, tmp_path
):
    assert [] == await drilled(connection, second_url, redis_url, tmp_path)


async def test_tables_that_the_restore_had_to_write_again_are_told(
    connection, second_url, redis, redis_url, tmp_path, monkeypatch
):
    restore, wrong = drill.restore, []

    async def restore_of_wrong_tables(*arguments, **options):
        """What is imported and verified is changed before Redis is loaded from it."""
        own = await connect(second_url)
        lie = "UPDATE accounts SET available = available + 1 WHERE shard = 1 RETURNING account"
        wrong.extend(row["account"] for row in await own.fetch(lie))
        await own.close()
        return await restore(*arguments, **options)

    monkeypatch.setattr(drill, "restore", restore_of_wrong_tables)
    monkeypatch.setattr(drill, "REWRITTEN_NAMED_MAX", 1)
    found = await drilled(connection, second_url, redis_url, tmp_path)
    assert [
        f"PostgreSQL's tables said of {min(wrong)} what its entries do not; they were written again",
        f"and of {len(wrong) - 1} more accounts",
    ] == found
