"""What the ledger says of itself: the chain as `lastro verify` proves it, both stores as `lastro reconcile`
compares them. Both must find nothing; `history` and `stores` find out by themselves.
"""

import asyncio

from redis.asyncio import Redis

from persistence.reconcile.position import begin
from persistence.reconcile.run import Run
from persistence.reconcile.work import COMMAND, working
from persistence.verify import verify
from tests.chaos.storm.records import Findings

LOCKED_SECONDS_MAX = 20.0


class Proofs:
    """Of one ledger."""

    def __init__(self, database_url: str, redis: Redis, findings: Findings) -> None:
        self._database_url = database_url
        self._redis = redis
        self._findings = findings
        self.may_lose = False
        """Whether a Redis has come back without its end, so that something may be reported lost."""

    LOST = "SELECT * FROM acknowledged_lost ORDER BY id"

    async def check(self, *, everything: bool = False) -> None:
        """Verify what was not yet, or all; reconcile."""
        async with asyncio.timeout(LOCKED_SECONDS_MAX):
            while not await self._checked(since=1 if everything else None):  # noqa: ASYNC110 - a worker does it
                await asyncio.sleep(0.1)

    async def _checked(self, since: int | None) -> bool:
        async with working(self._database_url) as connection:
            if connection is None:
                return False
            for finding in (await verify(connection, since=since)).findings:
                self._findings.add(f"verify: {finding}")
            if not self.may_lose:
                for reported in await connection.fetch(self.LOST):
                    self._findings.add(f"acknowledged_lost, and nothing was: {dict(reported)}")
            name = await begin(connection, f"{COMMAND}storm", full=True)
            run = await Run(connection, self._redis, name).load()
            while not run.is_at_end:
                await run.step()
            if run.status != "equal":
                self._findings.add(f"reconcile: {run.status} {run.position.unknown} {run.drift[:5]}")
        return True
