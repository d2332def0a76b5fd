"""What the doors count: in the process, and written every few seconds, one row for each minute and kind."""

import asyncio
import re
from collections.abc import Mapping
from typing import NamedTuple

from app.ledger.backing import BackingUnavailable
from app.mishaps import Mishap
from app.rules import Rule
from persistence.health.seen import Seen, counted
from persistence.pool import Connection, Pool, answering

WRITE_SECONDS = 2.0
ABOUT_MAX = 300
KEPT_HOURS = 24

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Count(NamedTuple):
    """How many, and what the last one was about."""

    number: int
    last: str


class PostgresMishaps:
    """`app.mishaps.Mishaps`; what PostgreSQL does not take now it is given later."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._counts: dict[Mishap, Count] = {}

    def note(self, what: Mishap, about: str) -> None:
        number = self._counts[what].number if what in self._counts else 0
        self._counts[what] = Count(number + 1, about)

    async def write(self) -> None:
        """Every few seconds. Never ends."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write_now()

    WRITE = """
    INSERT INTO mishaps AS there (what, minute, number, last)
    SELECT what, date_trunc('minute', clock_timestamp()), number, last
    FROM unnest($1::text[], $2::bigint[], $3::text[]) AS counted (what, number, last) ORDER BY what
    ON CONFLICT (what, minute) DO UPDATE SET number = there.number + excluded.number, last = excluded.last
    """

    FORGET = "DELETE FROM mishaps WHERE minute < now() - make_interval(hours => $1)"

    async def write_now(self) -> None:
        """What was counted by now, if PostgreSQL answers."""
        taken, self._counts = self._counts, {}
        if not taken:
            return
        numbers = [count.number for count in taken.values()]
        lasts = [_CONTROLS.sub(" ", count.last)[:ABOUT_MAX] for count in taken.values()]
        try:
            async with answering(self._pool) as connection:
                await connection.execute(self.WRITE, list(taken), numbers, lasts)
                await connection.execute(self.FORGET, KEPT_HOURS)
        except BackingUnavailable:
            for what, count in taken.items():
                newer = self._counts.get(what, Count(0, count.last))
                self._counts[what] = Count(count.number + newer.number, newer.last)


LATELY = """
SELECT coalesce(sum(number), 0)::bigint AS number, (array_agg(last ORDER BY minute DESC))[1] AS last
FROM mishaps WHERE what = $1 AND minute > statement_timestamp() - interval '1 hour'
"""


async def lately(connection: Connection, what: Mishap) -> Count:
    """Within the last hour."""
    row = await connection.fetchrow(LATELY, what)
    assert row is not None
    return Count(row["number"], row["last"] or "")


async def conflicts(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """Confirms that contradict the one before them."""
    number, last = await lately(connection, "confirm_conflict")
    if not number:
        return counted(rules["confirm_conflict"], 0, "No confirm named another amount than the one before.")
    says = f"{number:,} confirms within the last hour named another amount than the one before: {last}."
    do = "The first amount stays. Two callers confirm one reservation: let them agree on what it costs."
    return counted(rules["confirm_conflict"], number, says, do=do)
