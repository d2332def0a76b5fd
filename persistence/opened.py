"""What is open in PostgreSQL, counted along the indexes that have nothing else in them."""

from app.opened import Open
from persistence.pool import Pool, answering

LOOK_SECONDS = 1.5


class PostgresOpened:
    """`app.opened.Opened` over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    RESERVATIONS = "SELECT count(*) FROM reservations WHERE status = 'pending'"

    WEBHOOKS = """
    SELECT count(*) FILTER (WHERE status = 'received') AS received,
      count(*) FILTER (WHERE status = 'waiting') AS waiting
    FROM webhook_inbox WHERE status IN ('received', 'waiting')
    """

    EVENTS = """
    SELECT (SELECT count(*) FROM event_deliveries WHERE state = 'waiting') AS waiting,
      (SELECT count(*) FROM event_deliveries WHERE state = 'dead') AS dead
    """

    async def look(self) -> Open:
        async with answering(self._pool, LOOK_SECONDS) as connection:
            reservations = await connection.fetchval(self.RESERVATIONS)
            webhooks = await connection.fetchrow(self.WEBHOOKS)
            events = await connection.fetchrow(self.EVENTS)
        assert webhooks is not None, "counts"
        assert events is not None, "counts"
        return Open(reservations, dict(webhooks), dict(events))
