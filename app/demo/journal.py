"""What the journal says about one account, and whether three who know it agree.

The journal itself (versions without a gap, legs, each reservation ended at most once and for no more than was
set aside), the balance, and the shop's own book of what it was told.
"""

from collections.abc import Iterable

from app.demo.account import TOLD, Sums
from app.demo.answers import Balance, Transaction

_ENDINGS = ("confirmed", "cancelled", "expired")


class Journal:
    """The transactions of one account, newest first."""

    def __init__(self, account: str) -> None:
        self.sums = Sums()
        self._account = account
        self._last = 0
        self._gaps = 0
        self._moved = [0, 0]
        self._reserved: dict[str, int] = {}
        self._endings: dict[str, list[Transaction]] = {}

    def add(self, each: Transaction) -> None:
        """The one before."""
        self._gaps += self._last not in (0, each.version + 1)
        self._last = each.version
        self.sums.add(each)
        self._moved[0] += sum(leg.available for leg in each.legs)
        self._moved[1] += sum(leg.held for leg in each.legs)
        if each.reservation_id is not None:
            if each.kind == "reserved":
                self._reserved[each.reservation_id] = each.amount
            elif each.kind in _ENDINGS:
                self._endings.setdefault(each.reservation_id, []).append(each)

    def differences(self, balance: Balance, told: Sums) -> list[str]:
        """What does not agree, a sentence each."""
        found = [*self._against_itself(), *self._against_balance(balance), *self._against_answers(told)]
        return [f"{self._account}: {each}" for each in found]

    def _against_itself(self) -> Iterable[str]:
        if self._gaps or self._last != 1:
            yield f"its transactions go back to version {self._last} with {self._gaps} gaps"
        for reservation, endings in self._endings.items():
            reserved = self._reserved.get(reservation, 0)
            if len(endings) > 1:
                kinds = " and ".join(each.kind for each in endings)
                yield f"reservation {reservation} ended {len(endings)} times: {kinds}"
            elif endings[0].amount > reserved:
                yield f"reservation {reservation} of {reserved} ended with {endings[0].amount} credits"

    def _against_balance(self, balance: Balance) -> Iterable[str]:
        granted, spent, lapsed = self.sums.credits["granted"], self.sums.spent, self.sums.credits["lapsed"]
        difference = granted - (balance.available + balance.held + spent + lapsed)
        if difference:
            yield (
                f"{difference:+,} credits: {granted:,} granted against {balance.available:,} available + "
                f"{balance.held:,} held + {spent:,} spent + {lapsed:,} lapsed"
            )
        open_ = sum(amount for id_, amount in self._reserved.items() if id_ not in self._endings)
        if open_ != balance.held:
            yield f"its open reservations hold {open_:,}, its balance says {balance.held:,} held"
        if self._moved != [balance.available, balance.held]:
            available, held = self._moved
            yield (
                f"its transactions add up to {available:,} available and {held:,} held, its balance says "
                f"{balance.available:,} and {balance.held:,}"
            )

    def _against_answers(self, told: Sums) -> Iterable[str]:
        journal = self.sums
        for kind in TOLD:
            if (journal.count[kind], journal.credits[kind]) != (told.count[kind], told.credits[kind]):
                yield (
                    f"{journal.credits[kind] - told.credits[kind]:+,} credits {kind}: the journal has "
                    f"{journal.credits[kind]:,} in {journal.count[kind]:,} transactions, the answers said "
                    f"{told.credits[kind]:,} in {told.count[kind]:,}"
                )
        if journal.receipts != told.receipts:
            yield "its transactions are not those that the answers named"
