"""A session that holds a lock lives as long as its process wants it to."""

from persistence.session import connect


async def test_no_setting_of_the_database_ends_it_or_makes_its_commits_less(database, database_url):
    await database.execute("""
    DO $$ BEGIN
      EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 1000', current_database());
      EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
    END $$
    """)
    connection = await connect(database_url)
    try:
        assert await connection.fetchval("SHOW idle_session_timeout") == "0"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()
