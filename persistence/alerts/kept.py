"""Alerts as they are kept: `app.alerts.Alerts` over a pool."""

from collections.abc import Mapping

from app.alerts import ALERTS_MAX, Alert, State
from app.rules import Rule
from persistence.alerts import book
from persistence.pool import Pool, answering


class PostgresAlerts:
    """Every method raises `BackingUnavailable` while PostgreSQL is away; `rules` can be read at any time."""

    def __init__(self, pool: Pool, rules: Mapping[str, Rule]) -> None:
        self._pool = pool
        self.rules = rules

    async def alerts(self, state: State | None = None, *, limit: int = 50) -> list[Alert]:
        if not 1 <= limit <= ALERTS_MAX:
            raise ValueError(f"limit {limit}: 1 to {ALERTS_MAX}")
        states: list[State] = ["firing", "resolved"] if state is None else [state]
        found: list[Alert] = []
        async with answering(self._pool) as connection:
            for each in states:
                if len(found) < limit:
                    found += await book.latest(connection, each, limit - len(found))
        return found
