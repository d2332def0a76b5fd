"""What came in at the doors lately, added up by provider and by what came of it."""

from app.webhooks.inbox import LATELY_ROWS_MAX, Lately
from persistence.pool import Connection

# However many there are, the newest rows are all that is looked at. A callback is waited for since its
# reservation was made; progress ends no waiting, and of what could not be verified nobody knows.
LATELY = """
SELECT i.provider, i.status, count(*) AS rows, sum(i.deliveries)::bigint AS deliveries,
  max(i.last_at) AS last_at,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM i.received_at - r.created_at))
    FILTER (WHERE i.outcome IN ('succeeded', 'failed')) AS callback_median_seconds,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM i.received_at - r.created_at))
    FILTER (WHERE i.outcome IN ('succeeded', 'failed')) AS callback_slow_seconds,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM i.settled_at - i.received_at))
    AS settling_slow_seconds
FROM (
  SELECT provider, status, outcome, deliveries, received_at, last_at, settled_at, reservation
  FROM webhook_inbox ORDER BY id DESC LIMIT $1
) i LEFT JOIN reservations r ON r.id = i.reservation::uuid
WHERE i.last_at > statement_timestamp() - interval '24 hours'
GROUP BY i.provider, i.status ORDER BY i.provider, i.status
"""


async def lately(connection: Connection) -> list[Lately]:
    """Of the last 24 hours, at most the newest `LATELY_ROWS_MAX` rows."""
    return [Lately(**row) for row in await connection.fetch(LATELY, LATELY_ROWS_MAX)]
