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

    # Each row is compared with moments that are computed once.
    OPEN = """
    WITH ages AS MATERIALIZED (
      SELECT now() - make_interval(secs => $1) AS first, now() - make_interval(secs => $2) AS second,
        now() - make_interval(secs => $3) AS third
    )
    SELECT model, count(*) AS count, sum(held)::bigint AS held,
      count(*) FILTER (WHERE expires_at < now()) AS overdue,
      array[
        count(*) FILTER (WHERE created_at > first),
        count(*) FILTER (WHERE created_at <= first AND created_at > second),
        count(*) FILTER (WHERE created_at <= second AND created_at > third),
        count(*) FILTER (WHERE created_at <= third)
      ] AS by_age
    FROM (
      SELECT model, held, expires_at, created_at
      FROM reservations WHERE status = 'pending' ORDER BY id DESC LIMIT $4
    ) AS open, ages
    GROUP BY model ORDER BY sum(held) DESC, model LIMIT $5
    """

    async def open_by_model(self) -> list[OpenOf]:
        async with answering(self._pool) as connection:
            rows = await connection.fetch(self.OPEN, *AGES_SECONDS, OPEN_MAX, MODELS_MAX)
        return [OpenOf(**row) for row in rows]
