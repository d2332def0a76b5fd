"""Deliveries that could not be verified: counted in the process, and written every few seconds.

So a flood of forgeries makes neither rows nor work for PostgreSQL: there is a row for each provider, reason
and hour, and of reasons only as many as a day may have.
"""

import re
from collections import Counter
from typing import NamedTuple

from persistence.pool import Connection

REASONS_MAX = 32
"""Of one hour and process."""

ROWS_OF_A_DAY_MAX = 300

OTHER = "other reasons"

_NUMBERS = re.compile(r"-?\d+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Reason(NamedTuple):
    """Whose, and why, without the numbers that would make each one another."""

    provider: str
    why: str


class Rejected:
    """What this process has counted and not written yet."""

    def __init__(self) -> None:
        self._counted: Counter[Reason] = Counter()

    def count(self, provider: str, why: str) -> None:
        """One more."""
        reason = Reason(provider, _NUMBERS.sub("n", _CONTROLS.sub(" ", why))[:200])
        if reason not in self._counted and len(self._counted) >= REASONS_MAX:
            reason = Reason(provider, OTHER)
        self._counted[reason] += 1

    def taken(self) -> Counter[Reason]:
        """All of them, which are counted here no more."""
        taken, self._counted = self._counted, Counter()
        return taken

    def put_back(self, taken: Counter[Reason]) -> None:
        """They could not be written."""
        for reason, number in taken.items():
            known = reason in self._counted or len(self._counted) < REASONS_MAX
            self._counted[reason if known else Reason(reason.provider, OTHER)] += number


# Reasons of which there are too many today are counted together. `named` is the hour and the reason.
WRITE = """
WITH today AS (
  SELECT count(*) AS rows FROM webhook_inbox
  WHERE status = 'rejected' AND received_at >= date_trunc('day', clock_timestamp())
),
counted AS (
  SELECT provider, CASE WHEN today.rows < $4 THEN why ELSE $5 END AS why, sum(number)::bigint AS number
  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS asked (provider, why, number), today GROUP BY 1, 2
)
INSERT INTO webhook_inbox AS there (provider, named, outcome, why, status, deliveries)
SELECT provider, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24 ') || why,
  'rejected', why, 'rejected', number
FROM counted ORDER BY provider, why
ON CONFLICT (provider, path, named, outcome) DO UPDATE
SET deliveries = there.deliveries + excluded.deliveries, last_at = clock_timestamp()
"""


async def write(connection: Connection, taken: Counter[Reason]) -> None:
    """Add what was counted to the rows of this hour."""
    await connection.execute(
        WRITE,
        [reason.provider for reason in taken],
        [reason.why for reason in taken],
        list(taken.values()),
        ROWS_OF_A_DAY_MAX,
        OTHER,
    )
