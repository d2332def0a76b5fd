"""What Redis must hold, as PostgreSQL knows it: texts, deadlines and records of every shard up to its cursor.

Everything is read at the cursor: of entries that Redis has and the journal lacks nothing is known here. What
only Redis knows is not rebuilt: remembered refusals, lanes, and the fence of a single account. Everything
comes in pages, so that memory does not grow with the ledger; whoever needs several pages of one moment reads
them in one transaction of isolation REPEATABLE READ.
"""

from persistence.rebuild.accounts import accounts, pages_of_accounts
from persistence.rebuild.memory import (
    bindings_of,
    first_since,
    pages_of_bindings,
    pages_of_records,
    records_of,
)
from persistence.rebuild.refunds import pages_of_refunds, refunds_of, refunds_to
from persistence.rebuild.reservations import (
    open_reservations_of,
    pages_of_open_reservations,
    pages_of_settled_reservations,
    reservations,
)

__all__ = [
    "accounts",
    "bindings_of",
    "first_since",
    "open_reservations_of",
    "pages_of_accounts",
    "pages_of_bindings",
    "pages_of_open_reservations",
    "pages_of_records",
    "pages_of_refunds",
    "pages_of_settled_reservations",
    "records_of",
    "refunds_of",
    "refunds_to",
    "reservations",
]
