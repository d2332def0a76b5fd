"""Two ledgers behind bad wires, many who ask: whatever is lost, kept, cut, each thing happens once."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count

import pytest

from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import CreditsHeld, InsufficientCredits, Refused, Unavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm, Deduct, Grant, Reserve
from app.ledger.receipts import Receipt
from tests.chaos.proxy import Proxy
from tests.engine import Streams, engine
from tests.lua.invariants import check_keys

ACCOUNTS = ["ana", "bia", "caio", "dora"]
LIMITS = Limits(request_seconds=0.3, batch_operations_max=16)
ANSWER_SECONDS = 0.05


class Shop:
    """Asks until it is told, and keeps books of its own."""

    def __init__(self, ledgers: list[Ledger], proxies: list[Proxy], seed: int) -> None:
        self.ledgers = ledgers
        self.proxies = proxies
        self.random = random.Random(seed)
        self.spent: Counter[str] = Counter()
        self.entries = 0
        self.unanswered = 0
        self._keys = count()

    async def insist(self, ask: Callable[[Ledger], Awaitable[Receipt]]) -> Receipt | Refused:
        """Ask again with the same key, of any ledger, until there is an answer."""
        while True:
            try:
                return await ask(self.random.choice(self.ledgers))
            except Unavailable:
                self.unanswered += 1
            except Refused as refused:
                return refused

    def asked(self) -> dict[str, str]:
        return {"key": f"k{next(self._keys)}", "fingerprint": "f" * 16}

    async def be_busy(self, steps: int) -> None:
        for _ in range(steps):
            await self.disturb()
            account, amount = self.random.choice(ACCOUNTS), self.random.randint(1, 9)
            if self.random.random() < 0.5:
                await self.deduct(account, amount)
            else:
                await self.run_a_job(account, amount)

    async def deduct(self, account: str, amount: int) -> None:
        asked = self.asked()
        answer = await self.insist(
            lambda ledger: ledger.deduct(Deduct(account=account, amount=amount, **asked))
        )
        if isinstance(answer, Receipt):
            self.spent[account] += amount
            self.entries += 1
        else:
            assert isinstance(answer, InsufficientCredits | CreditsHeld), answer

    async def run_a_job(self, account: str, amount: int) -> None:
        asked = self.asked()

        async def reserve(ledger: Ledger) -> Receipt:
            id_ = await ledger.new_reservation_id(account)
            return await ledger.reserve(Reserve(account=account, reservation=id_, amount=amount, **asked))

        reserved = await self.insist(reserve)
        if not isinstance(reserved, Receipt):
            assert isinstance(reserved, InsufficientCredits | CreditsHeld), reserved
            return
        id_ = reserved.reservation.id
        charged = self.random.randint(0, amount)
        if charged:
            ended = await self.insist(lambda ledger: ledger.confirm(Confirm(reservation=id_, amount=charged)))
        else:
            ended = await self.insist(lambda ledger: ledger.cancel(Cancel(reservation=id_)))
        assert isinstance(ended, Receipt), ended
        assert (charged, 0) == (ended.reservation.captured, ended.reservation.held)
        self.spent[account] += charged
        self.entries += 2

    async def disturb(self) -> None:
        """Now and then, something happens to one of the wires."""
        proxy = self.random.choice(self.proxies)
        match self.random.randint(0, 12):
            case 0 | 1:
                proxy.lose_answers(self.random.randint(1, 3), cut=True)
            case 2:
                proxy.lose_answers(1, cut=False)
            case 3:
                proxy.keep_calls(self.random.randint(1, 3))
            case 4:
                proxy.deliver_kept()
            case 5:
                await proxy.blink()


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_thing_happens_once_whatever_the_wires_do(redis, redis_url, nightly, seed):
    async with AsyncExitStack() as stack:
        home, journal = await stack.enter_async_context(engine(redis))
        proxies, ledgers = [], []
        for _ in range(2):
            proxies.append(proxy := await stack.enter_async_context(Proxy(redis_url)))
            client = await stack.enter_async_context(connect(proxy.url, answer_seconds=ANSWER_SECONDS))
            ledgers.append(ledger := Ledger(client, journal, LIMITS))
            await ledger.start()
            stack.push_async_callback(ledger.stop)
        for account in ACCOUNTS:
            await home.grant(Grant(account=account, amount=500))
        shop = Shop(ledgers, proxies, seed)
        async with asyncio.TaskGroup() as busy:
            for _ in range(20):
                busy.create_task(shop.be_busy(40 if nightly else 6))
        for proxy in proxies:
            proxy.deliver_kept()
        assert sum(proxy.lost for proxy in proxies) > 0
        assert sum(proxy.kept for proxy in proxies) > 0
        for account in ACCOUNTS:
            left = (await home.balance(account)).account
            assert (500 - shop.spent[account], 0) == (left.available, left.held), account
        assert len(ACCOUNTS) + shop.entries == await entries(journal)
        await check_keys(redis)


async def entries(journal: Streams) -> int:
    return sum([len(await journal.entries(shard)) for shard in range(journal.terms.shards)])
