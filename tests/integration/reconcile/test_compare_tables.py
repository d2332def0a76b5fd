"""What differs on PostgreSQL's side is named by its table."""

from tests.integration.reconcile.past import ANA, BOB
from tests.integration.reconcile.test_compare import tamper, told

TABLES = ("accounts", "lots", "reservations", "journal")


async def put_back_tables(connection):
    """The tables as they were when this was called first."""
    await connection.execute("SET session_replication_role = replica")
    for table in TABLES:
        await connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS kept_{table} AS TABLE {table}")
        await connection.execute(f"DELETE FROM {table}")
        await connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
    await connection.execute("SET session_replication_role = DEFAULT")


async def test_a_projection_that_was_changed_is_named(past, connection, reconcile):
    for statement, field in (
        ("UPDATE accounts SET available = available + 1 WHERE account = 'ana'", "journal.8.available"),
        ("UPDATE accounts SET held = held - 1 WHERE account = 'ana'", "journal.8.held"),
        ("UPDATE accounts SET version = 99 WHERE account = 'ana'", "journal.version"),
        ("UPDATE lots SET available = available + 1 WHERE account = 'ana' AND bucket = 'plan'", None),
        ("UPDATE lots SET priority = 3 WHERE account = 'ana' AND bucket = 'plan'", "lot.plan.4102444800000"),
        ("DELETE FROM lots WHERE account = 'ana' AND bucket = 'plan'", None),
        ("DELETE FROM reservations WHERE id::text = $1", None),
        ("UPDATE reservations SET expires_at = now() WHERE id::text = $1", None),
        ("UPDATE reservations SET held = 3, released = 4 WHERE id::text = $1", None),
    ):
        await put_back_tables(connection)
        await tamper(connection, statement, *([past.open] if "$1" in statement else []))
        for full in (False, True):
            run = await reconcile(full=full)
            assert "drift" == run.status
            assert {ANA} == {each.account_id for each in run.drift}
            assert field is None or (ANA, field) in told(run)


ONE_MORE = "replace(entry, '\"default\",0,100', '\"default\",0,101')"


async def test_a_journal_row_that_was_changed_is_named_when_all_is_added_up(past, connection, reconcile):
    for statement in (
        "UPDATE journal SET available = available + 1 WHERE account = 'ana' AND version = 3",
        "UPDATE journal SET amount = amount + 1 WHERE account = 'ana' AND version = 1",
        "UPDATE journal SET kind = 'deducted' WHERE account = 'ana' AND version = 1",
        f"UPDATE journal SET entry = {ONE_MORE} WHERE account = 'ana' AND version = 1",
        "UPDATE journal SET entry = 'x' WHERE account = 'ana' AND version = 1",
        "DELETE FROM journal WHERE account = 'ana' AND version = 2",
    ):
        await put_back_tables(connection)
        await tamper(connection, statement)
        run = await reconcile()
        assert "drift" == run.status
        assert any(each.account_id == ANA and each.field.startswith("journal.") for each in run.drift)


async def test_the_last_row_of_an_account_is_held_against_its_balance_every_time(past, connection, reconcile):
    await tamper(connection, "UPDATE journal SET available = 1 WHERE account = 'bob'")
    assert {(BOB, "journal.1.available"): (1, 30)} == told(await reconcile(full=False))


async def test_a_row_that_is_missing_in_a_shard_is_named(past, connection, reconcile):
    await tamper(connection, "DELETE FROM journal WHERE shard = 0 AND seq = 4")
    assert ("", "journal.0.4") in told(await reconcile())
