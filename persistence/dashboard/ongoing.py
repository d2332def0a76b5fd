"""What goes on right now, from the newest rows of the journal and of the reservations alone."""

from app.ongoing import AGES_SECONDS, MODELS_MAX, OPEN_MAX, OpenOf
from persistence.pool import Pool, answering

LATEST_MAX = 1_000


class PostgresOngoing:
    """`app.ongoing.Ongoing`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    LATEST = """
    SELECT count(*) AS entries, extract(epoch FROM now() - min(at))::float8 AS seconds
    FROM (SELECT at FROM journal WHERE at > now() - interval '60 s' ORDER BY at DESC LIMIT $1) latest
    """

    async def per_second(self) -> float:
        async with answering(self._pool) as connection:
            (row,) = await connection.fetch(self.LATEST, LATEST_MAX)
        seconds = 60.0 if row["entries"] < LATEST_MAX else max(row["seconds"], 0.001)
        return float(row["entries"] / seconds)

    OPEN = """
    SELECT model, count(*) AS count, sum(held)::bigint AS held,
      count(*) FILTER (WHERE expires_at < now()) AS overdue,
      array[
        count(*) FILTER (WHERE age < $1), count(*) FILTER (WHERE age >= $1 AND age < $2),
        count(*) FILTER (WHERE age >= $2 AND age < $3), count(*) FILTER (WHERE age >= $3)
      ] AS by_age
    FROM (
      SELECT model, held, expires_at, extract(epoch FROM now() - created_at) AS age
      FROM reservations WHERE status = 'pending' ORDER BY id DESC LIMIT $4
    ) open
    GROUP BY model ORDER BY sum(held) DESC, model LIMIT $5
    """

    async def open_by_model(self) -> list[OpenOf]:
        async with answering(self._pool) as connection:
            rows = await connection.fetch(self.OPEN, *AGES_SECONDS, OPEN_MAX, MODELS_MAX)
        return [OpenOf(**row) for row in rows]
