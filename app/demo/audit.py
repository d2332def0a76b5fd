"""Is every credit accounted for? Each account's transactions are read and held against all who know them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import msgspec
from msgspec import Struct

from app.demo.account import Account
from app.demo.answers import Balance, Page, Refused, Transaction
from app.demo.api import Api
from app.demo.errors import CannotTell
from app.demo.journal import Journal

JOURNAL_SECONDS = 30.0
_AT_ONCE = 16
_LOOK_SECONDS = 0.1
_PAGE = 200

_balance = msgspec.json.Decoder(Balance).decode
_page = msgspec.json.Decoder(Page).decode


class Books(Struct):
    """What was found, summed up over accounts."""

    accounts: int = 0
    transactions: int = 0
    reservations: int = 0
    charged: int = 0
    granted: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    lapsed: int = 0
    differences: list[str] = []
    """One sentence each, which names the account."""


class Audit:
    """Of some accounts, to which nobody writes any more."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.books = Books()

    async def check(self, accounts: Iterable[Account]) -> Books:
        """Check them all.

        Raises:
            CannotTell: The journal does not catch up, so that nothing can be said.
        """
        async with asyncio.TaskGroup() as group:
            for account in accounts:
                group.create_task(self._check(account))
        return self.books

    async def _check(self, account: Account) -> None:
        async with self._slots:
            answer = await self._api.read("/api/credits/balance", accountId=account.name)
            if isinstance(answer, Refused):
                if account.told.count.total():
                    self.books.differences.append(f"{account.name}: its balance is {answer.code}")
                return
            balance = _balance(answer)
            journal = Journal(account.name)
            async for transaction in self._transactions(account.name, balance.version):
                journal.add(transaction)
        self.books.differences += journal.differences(balance, account.told)
        account.balance, account.lapsed = balance, journal.sums.credits["lapsed"]
        self._sum_up(balance, journal)

    def _sum_up(self, balance: Balance, journal: Journal) -> None:
        books, sums = self.books, journal.sums
        books.accounts += 1
        books.transactions += sums.count.total()
        books.reservations += sums.count["reserved"]
        books.charged += sums.count["confirmed"]
        books.granted += sums.credits["granted"]
        books.available += balance.available
        books.held += balance.held
        books.spent += sums.spent
        books.lapsed += sums.credits["lapsed"]

    async def _transactions(self, account: str, version: int) -> AsyncIterator[Transaction]:
        """All up to that version, newest first, once the journal has them."""
        page = await self._caught_up(account, version)
        while True:
            for transaction in page.data:
                if transaction.version <= version:
                    yield transaction
            if page.next_cursor is None:
                return
            page = await self._read(account, cursor=page.next_cursor)

    async def _caught_up(self, account: str, version: int) -> Page:
        deadline = time.monotonic() + JOURNAL_SECONDS
        while True:
            page = await self._read(account)
            if page.version >= version:
                return page
            if time.monotonic() > deadline:
                raise CannotTell(
                    f"the journal has {page.version} of the {version} transactions of {account} after "
                    f"{JOURNAL_SECONDS:g} s, and nothing can be said; does a worker run?"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, account: str, **query: str | int) -> Page:
        answer = await self._api.read("/api/credits/transactions", accountId=account, limit=_PAGE, **query)
        if isinstance(answer, Refused):
            raise CannotTell(f"the transactions of {account} cannot be read: {answer.status} {answer.code}")
        return _page(answer)
