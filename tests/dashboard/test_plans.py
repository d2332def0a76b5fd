"""What the pages ask of PostgreSQL walks along indexes, so that a page costs what it shows and no more."""

from datetime import timedelta

import asyncpg
import pytest

from app.operators import ActionFilter
from app.searching import ReservationFilter
from persistence.dashboard.actions import PostgresActions
from persistence.dashboard.ongoing import PostgresOngoing
from persistence.searching import PostgresSearching
from tests.integration.plans import explained
from tests.integration.reading.test_plans import FILL, NOON, Noting

LARGE = {"journal", "reservations", "operator_actions"}

MANY_ACTIONS = """
INSERT INTO operator_actions (key, act, by, reason, account, reservation)
SELECT 'k' || n, 'adjust', 'dashboard:ana', 'why', 'user-' || n % 400, md5((n % 500)::text)::uuid
FROM generate_series(0, 9999) n;
ANALYZE operator_actions;
"""


@pytest.fixture
async def filled(database_url):
    connection = await asyncpg.connect(database_url)
    await connection.execute(FILL)
    await connection.execute(MANY_ACTIONS)
    yield connection
    await connection.close()


async def used(connection, look) -> set[str]:
    """The indexes by which it looks; and no table of many rows is read whole."""
    noting = Noting(connection)
    await look(noting)
    found: set[str] = set()
    for query, values in noting.asked:
        if not query.lstrip().startswith(("SELECT", "WITH")):
            continue
        for node in await explained(connection, query, values):
            assert node["Node Type"] != "Seq Scan" or node["Relation Name"] not in LARGE, query
            found |= {node["Index Name"]} if "Index Name" in node else set()
    return found


LATELY = """
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held, by, entry,
  hash)
SELECT 0, 5000 + n, 1, now() - interval '5 minutes' + n * interval '60 ms', 'granted', 'eva', n, 1, 1, 0,
  'key:shop', '{}', decode(repeat('00', 32), 'hex')
FROM generate_series(1, 5000) n;
ANALYZE;
"""


async def test_how_fast_it_goes_is_read_from_the_end_of_the_journal(filled):
    await filled.execute(LATELY)
    assert {"journal_at"} == await used(filled, lambda pool: PostgresOngoing(pool).per_second())


async def test_open_reservations_are_counted_without_those_that_have_ended(filled):
    found = await used(filled, lambda pool: PostgresOngoing(pool).open_by_model())
    assert {"reservations_open"} == found


@pytest.mark.parametrize("status", ["pending", None])
async def test_reservations_of_an_age_are_found_by_their_ids(filled, status):
    which = ReservationFilter(status=status, made_since=NOON - timedelta(minutes=10), made_before=NOON)
    found = await used(filled, lambda pool: PostgresSearching(pool).reservations(which))
    assert {"reservations_open" if status else "reservations_pkey"} <= found


@pytest.mark.parametrize("of", ["account", "reservation"])
async def test_what_was_done_to_one_is_found_by_its_index(filled, of):
    which = {
        "account": ActionFilter(account="user-7"),
        "reservation": ActionFilter(reservation="00000000-0000-0000-0000-000000000007"),
    }[of]
    found = await used(filled, lambda pool: PostgresActions(pool).listed(which, 20))
    assert {f"operator_actions_{of}"} == found
