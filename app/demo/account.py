"""A customer's account: what is asked of the ledger, and the shop's own book of what it answered."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from app.demo.answers import Balance, Receipt, Refused, Reservation, Transaction
from app.demo.api import Api

TOLD = ("granted", "deducted", "reserved", "confirmed", "cancelled", "bound")
"""The kinds of transactions that are told to whoever asked; `expired` and `lapsed` happen by themselves."""

_receipt = msgspec.json.Decoder(Receipt).decode
_reservation = msgspec.json.Decoder(Reservation).decode


class Sums:
    """Transactions as sums, so that a book has the same size after a minute and after a day."""

    def __init__(self) -> None:
        self.credits: Counter[str] = Counter()
        self.count: Counter[str] = Counter()
        self.receipts = 0
        """A digest of the very transactions, whatever their order."""

    def add(self, each: Transaction) -> None:
        """Take in a transaction; each of them once."""
        self.credits[each.kind] += each.amount
        self.count[each.kind] += 1
        if each.kind in TOLD:
            self.receipts += hash((each.id, each.kind, each.amount, each.version, each.reservation_id))

    @property
    def spent(self) -> int:
        return self.credits["deducted"] + self.credits["confirmed"]


class Account:
    """`told` is what the answers said was done, `balance` the latest that any of them showed."""

    def __init__(self, name: str, api: Api) -> None:
        self.name = name
        self.told = Sums()
        self.balance = Balance(0, 0, 0)
        self.lapsed = 0
        """Found out whenever nothing is on its way, from what is missing."""
        self._api = api
        self._moving = 0

    async def ask(self, verb: str, key: str, body: Mapping[str, object]) -> Receipt | Refused:
        """Have something done and enter it in the book."""
        with self.moving():
            return self.enter(await self.post(verb, key, body))

    async def post(self, verb: str, key: str, body: Mapping[str, object]) -> Receipt | Refused:
        """Have something done; whoever asks twice for the same enters it once, within `moving`."""
        method = "PUT" if verb.endswith("/task") else "POST"
        answer = await self._api.write(method, f"/api/credits/{verb}", f"{self.name}-{key}", body)
        if isinstance(answer, Refused):
            return answer
        receipt = _receipt(answer)
        if receipt.balance.version > self.balance.version:
            self.balance = receipt.balance
        return receipt

    def enter(self, answer: Receipt | Refused) -> Receipt | Refused:
        """Write what was done into the book; a refusal moved nothing."""
        if isinstance(answer, Receipt):
            self.told.add(answer.transaction)
        return answer

    async def reservation(self, id_: str) -> Reservation | Refused:
        """How a hold stands now."""
        answer = await self._api.read(f"/api/credits/reservations/{id_}")
        return answer if isinstance(answer, Refused) else _reservation(answer)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """From before something is asked until after it is entered."""
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1
            if not self._moving:
                there = self.balance.available + self.balance.held
                self.lapsed = self.told.credits["granted"] - self.told.spent - there
