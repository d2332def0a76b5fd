"""What a customer wants of the ledger: one of a few errands, each on one account."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from random import Random

from tests.chaos.storm.asking import Asking
from tests.chaos.storm.records import Applied, Book, Record

SECONDS_TTL = 1
DAY_TTL = 86_400
SHORT_SHARE = 0.1


class Customer:
    """Asks for one errand after another, on the accounts given."""

    def __init__(self, name: str, asking: Asking, book: Book, rng: Random) -> None:
        self.name = name
        self._asking = asking
        self._book = book
        self._rng = rng
        self._numbers = count(1)
        self.done: list[Record] = []

    async def errand(self, account: str) -> None:
        """Whatever comes to mind."""
        errands: dict[Callable[[str], Awaitable[None]], int] = {
            self.grant: 8,
            self.deduct: 24,
            self.deduct_without_key: 8,
            self.have_it_made: 40,
            self.look: 14,
            self.ask_again: 6,
        }
        (errand,) = self._rng.choices([*errands], [*errands.values()])
        await errand(account)

    async def open(self, account: str) -> None:
        """First credits, asked for until they are there: without them the account does not exist."""
        await self._ask("grant", account, self._rng.randint(100, 900), stubborn=True)

    async def grant(self, account: str) -> None:
        """Credits for some time."""
        await self._ask("grant", account, self._rng.randint(100, 900))

    async def deduct(self, account: str) -> None:
        """Some of them, or more than there are."""
        amount = self._rng.choice((1, self._rng.randint(1, 60), self._rng.randint(1, 60), 100_000))
        await self._ask("deduct", account, amount)

    async def deduct_without_key(self, account: str) -> None:
        """Sent once: if no answer comes it may have happened once, never twice."""
        mark = f"{self.name}-{next(self._numbers)}"
        amount = self._rng.randint(1, 20)
        body = {"accountId": account, "amount": amount, "modelId": mark}
        record = Record("deduct", account, account, "", body, self._book.known(account), amount, mark)
        await self._asking.ask(self._book.open(record))

    async def have_it_made(self, account: str) -> None:
        """Reserve, and whatever comes then."""
        number, amount = next(self._numbers), self._rng.randint(1, 60)
        short = self._rng.random() < SHORT_SHARE
        task = {"taskId": f"{self.name}-{number}", "provider": "fal"}
        made = await self._ask(
            "reserve", account, amount, {**task, "ttlSeconds": SECONDS_TTL if short else DAY_TTL}
        )
        if not isinstance(made.outcome, Applied) or made.outcome.reservation is None:
            return
        by_id = {"reservationId": made.outcome.reservation.id}
        match "wait" if short else self._rng.choice(("both", "both", "race", "webhook", "part", "cancel")):
            case "both":
                await self._at_once(made, ("confirm", by_id), ("confirm", task))
            case "race":
                await self._at_once(made, ("confirm", task), ("cancel", by_id))
            case "webhook":
                await self._settle(made, "confirm", task)
            case "part":
                await self._settle(made, "confirm", {**by_id, "amount": self._rng.randint(0, amount)})
            case "cancel":
                await self._settle(made, "cancel", by_id)
            case _:
                pause = self._rng.uniform(0.5, 1.5) * SECONDS_TTL
                await asyncio.sleep(pause)
                await self._at_once(made, ("confirm", by_id), ("cancel", task))

    async def look(self, account: str) -> None:
        """The balance."""
        await self._asking.look(account)

    async def ask_again(self, account: str) -> None:
        """Something answered long ago, under its key: the answer must be what it was."""
        if self.done:
            await self._asking.ask(self._rng.choice(self.done), stubborn=True)

    async def _at_once(self, made: Record, *verbs: tuple[str, dict[str, object] | dict[str, str]]) -> None:
        await asyncio.gather(*(self._settle(made, verb, dict(body)) for verb, body in verbs))

    async def _settle(self, made: Record, verb: str, body: dict[str, object] | dict[str, str]) -> None:
        assert isinstance(made.outcome, Applied)
        reservation = made.outcome.transaction.reservation_id or ""
        record = Record(
            verb,
            made.account,
            reservation,
            f"{self.name}-{verb}-{next(self._numbers)}",
            body,
            self._book.known(made.account),
            reservation=reservation,
        )
        await self._asking.ask(self._book.open(record))
        self._remember(record)

    async def _ask(
        self,
        verb: str,
        account: str,
        amount: int,
        more: dict[str, object] | None = None,
        *,
        stubborn: bool = False,
    ) -> Record:
        body = {"accountId": account, "amount": amount, **(more or {})}
        key = f"{self.name}-{verb}-{next(self._numbers)}"
        record = Record(verb, account, account, key, body, self._book.known(account), amount)
        await self._asking.ask(self._book.open(record), stubborn=stubborn)
        self._remember(record)
        return record

    def _remember(self, record: Record) -> None:
        if record.outcome is not None:
            self.done.append(record)
            del self.done[:-50]
