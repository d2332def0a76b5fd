"""The months of the journal: tables of PostgreSQL, each for a month of UTC, that together are `journal`.

Rows can only be written where their month has a table. A job makes the next ones ahead. Whoever writes an
entry of a month that has none makes it first: neither a job that did not run nor a clock that is ahead stops
the journal. Nobody who reads or writes waits while one is made.
"""

from collections.abc import Iterable

from persistence.pool import Connection
from persistence.projections import at

AHEAD = 3
"""So many months after the present one are there before anybody needs them."""

_DAY_MS = 86_400_000

MAKE = "SELECT make_journal_months($1)"

MAKE_AHEAD = "SELECT make_journal_months_ahead($1)"

AHEAD_NOW = """
SELECT EXISTS (SELECT FROM journal_months WHERE month_after(now()) >= since AND month_after(now()) < until)
"""

# What a statement that knows no moment takes: a lock on every month, and on each of its indexes.
LOCKS = """
WITH months AS (
  SELECT 1 + (SELECT count(*) FROM pg_index WHERE indrelid = inhrelid) AS locks
  FROM pg_inherits WHERE inhparent = 'journal'::regclass
), setting AS (
  SELECT current_setting('max_locks_per_transaction')::integer AS each,
    current_setting('max_connections')::integer AS connections
)
SELECT each, each * connections AS room, count(*) AS months, sum(locks)::bigint AS wanted
FROM setting, months GROUP BY each, connections
"""


class Room:
    """Sees to it that what is going to be written has its tables, and remembers for which days there are."""

    def __init__(self) -> None:
        self._days: set[int] = set()

    async def make(self, connection: Connection, moments_ms: Iterable[int]) -> None:
        """Have the months of these moments made that are not there: before the transaction that writes, so
        that no two shards wait for each other.
        """
        if new := {moment // _DAY_MS for moment in moments_ms} - self._days:
            await connection.execute(MAKE, [at(day * _DAY_MS) for day in new])
            self._days |= new

    def forget(self) -> None:
        """Look anew the next time: something could not be written."""
        self._days.clear()


async def make_ahead(connection: Connection) -> list[str]:
    """Make this month and the next ones where they are not there. Returns the names of the tables it made."""
    return [row[0] for row in await connection.fetch(MAKE_AHEAD, AHEAD)]
