"""The shop: customers with a plan and extras, who order, wait, come back, and run out of credits."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from random import Random

from app.demo.account import Account
from app.demo.answers import Receipt, Refused
from app.demo.api import Api
from app.demo.catalogue import order
from app.demo.job import Job
from app.demo.tally import End, Tally

JOBS_PER_SECOND = 150
_AT_ONCE, _AT_ONCE_SHARES = (1, 2, 3), (70, 18, 12)
_PLANS, _PLAN_SHARES = (25, 100, 200, 400), (10, 30, 40, 20)
_EXTRAS = (20, 50, 100)
_TOP_UP = 50
_TOP_UP_SHARE = 0.3
_PLAN_PRIORITY, _EXTRAS_PRIORITY = 10, 20
_LAPSING_SHARE = 0.2
_LAPSING_PART = (0.3, 0.8)


class Shop:
    """One run of it. `name` begins every account's name, so that each run has accounts of its own."""

    def __init__(
        self, name: str, api: Api, tally: Tally, rng: Random, *, accounts: int, seconds: float
    ) -> None:
        self.name = name
        width = len(str(accounts - 1))
        self.accounts = [Account(f"{name}-{number:0{width}}", api) for number in range(accounts)]
        self.opened = 0
        self.closing = asyncio.Event()
        self._seconds = seconds
        self._tally = tally
        self._rng = rng
        self._think_seconds = max(0.5, accounts / JOBS_PER_SECOND)

    async def open(self) -> None:
        """Grant every customer a plan and extras."""
        async with asyncio.TaskGroup() as group:
            for account in self.accounts:
                group.create_task(self._open(account))

    async def trade(self) -> None:
        """Have customers order until the shop is `closing`, and then wait for the jobs that run."""
        async with asyncio.TaskGroup() as group:
            for account in self.accounts:
                group.create_task(self._serve(account))

    async def _open(self, account: Account) -> None:
        extras = await self._grant(account, "extras", self._rng.choice(_EXTRAS), _EXTRAS_PRIORITY)
        if isinstance(extras, Receipt) and not self.closing.is_set():
            now = datetime.fromisoformat(extras.transaction.at)  # the ledger's clock, which decides
            (plan,) = self._rng.choices(_PLANS, _PLAN_SHARES)
            await self._grant(account, "plan", plan, _PLAN_PRIORITY, expiresAt=self._end_of_plan(now))
        self.opened += 1

    async def _grant(
        self, account: Account, bucket: str, amount: int, priority: int, key: str = "opening", **more: str
    ) -> Receipt | Refused:
        body = {"accountId": account.name, "amount": amount, "bucket": bucket, "priority": priority, **more}
        answer = await account.ask("grant", f"grant-{bucket}-{key}", body)
        if isinstance(answer, Refused) and answer.code != "already_expired":
            self._tally.find(f"{account.name} was refused a grant: {answer.status} {answer.code}")
        return answer

    def _end_of_plan(self, now: datetime) -> str:
        """The end of the month; for some, to have a look at it, before the shop closes."""
        if self._rng.random() < _LAPSING_SHARE:
            end = now + timedelta(seconds=1 + self._seconds * self._rng.uniform(*_LAPSING_PART))
        else:
            days = timedelta(days=31)
            first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            end = (first + days).replace(day=1)
        return end.isoformat()

    async def _serve(self, account: Account) -> None:
        """A customer's stay: some orders at once, a while of thinking, the next ones."""
        await self._pause(self._rng.uniform(0, self._think_seconds))
        visit = 0
        while not self.closing.is_set():
            visit += 1
            (orders,) = self._rng.choices(_AT_ONCE, _AT_ONCE_SHARES)
            async with asyncio.TaskGroup() as group:
                jobs = [
                    group.create_task(self._job(account, f"{visit}.{number}").play())
                    for number in range(1, orders + 1)
                ]
            if any(job.result() is End.TURNED_AWAY for job in jobs) and self._rng.random() < _TOP_UP_SHARE:
                await self._grant(account, "extras", _TOP_UP, _EXTRAS_PRIORITY, key=str(visit))
            await self._pause(self._rng.expovariate(1 / self._think_seconds))

    def _job(self, account: Account, name: str) -> Job:
        return Job(account, order(self._rng), name, self._rng, self._tally)

    async def _pause(self, seconds: float) -> None:
        """A while, or until the shop closes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.closing.wait()
