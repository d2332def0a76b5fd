"""Lots of an account before some of its entries are partly guessed: no guess outlives these entries."""

from random import Random

import pytest

from app.ledger.entries import FORMAT, Entry, Leg
from app.ledger.replies import Lot
from persistence import folding
from persistence.folding import LOTS_MAX, OVERDRAFT
from persistence.reconcile.lost import Then
from persistence.reconcile.taking_back import take_back
from tests.integration.reconcile.past import ANA
from tests.integration.reconcile.test_taking_back import then_of


class Life:
    """An account that lives by chance, with as many buckets as it is given; it may owe what it likes."""

    def __init__(self, random: Random, buckets: int) -> None:
        self._random = random
        self._buckets = [f"b{number}" for number in range(buckets)]
        self.account = folding.Account(ANA, 0, 0, 0, overdraft_limit=2**53 - 1)

    def live(self, entries: int) -> list[Entry]:
        return [self._entry() for _ in range(entries)]

    def _entry(self) -> Entry:
        choose, account = self._random.choice, self.account
        legs = choose([self._grant, self._grant, self._spend, self._hold, self._release])()
        bucket = choose([None, *self._buckets])
        used = {(lot.bucket, lot.expires_at_ms) for lot in account.lots if not lot.is_empty}
        if len(used | {leg[:2] for leg in legs}) > LOTS_MAX:
            legs = []
        entry = Entry(
            format=FORMAT, kind="adjusted", adopted=(1, 1), at_ms=1, account=ANA, version=account.version + 1,
            amount=0, legs=[Leg(*leg) for leg in legs], incarnation=1, nonce="n", bucket=bucket,
            priority=bucket and choose([None, 5, 100, 200]),
            available=account.available + sum(leg[2] for leg in legs),
            held=account.held + sum(leg[3] for leg in legs),
        )  # fmt: skip
        account.fold(entry)
        return entry

    def _grant(self) -> list[tuple[str, int, int, int]]:
        """To a bucket, as far as nothing is owed."""
        amount, owed = self._random.randint(1, 9), max(0, -self.account.available)
        bucket, expires_at_ms = self._random.choice(self._buckets), self._random.choice([0, 0, 7, 8])
        legs = [(OVERDRAFT, 0, min(owed, amount), 0), (bucket, expires_at_ms, max(0, amount - owed), 0)]
        return [leg for leg in legs if leg[2]]

    def _spend(self) -> list[tuple[str, int, int, int]]:
        """Everything of some lots; where that is all there is, a debt too."""
        if self.account.available < 0:
            return []
        lots = [lot for lot in self.account.lots if lot.available > 0]
        taken = lots[: self._random.randint(1, 4)]
        legs = [(lot.bucket, lot.expires_at_ms, -lot.available, 0) for lot in taken]
        return legs if len(taken) < len(lots) else [*legs, (OVERDRAFT, 0, -self._random.randint(1, 20), 0)]

    def _hold(self) -> list[tuple[str, int, int, int]]:
        lots = [lot for lot in self.account.lots if lot.available > 0][:2]
        return [(lot.bucket, lot.expires_at_ms, -lot.available, lot.available) for lot in lots]

    def _release(self) -> list[tuple[str, int, int, int]]:
        """It is spent or given back, where nothing is owed."""
        lots = [lot for lot in self.account.lots if lot.held][:2]
        back = self.account.available >= 0 and self._random.random() < 0.5
        return [(lot.bucket, lot.expires_at_ms, lot.held if back else 0, -lot.held) for lot in lots]


def stored(account: folding.Account) -> list[Lot]:
    return [
        Lot(lot.bucket, lot.priority, lot.expires_at_ms, lot.available, lot.held, lot.since)
        for lot in account.lots
    ]


def with_lots(then: Then, at: folding.Account) -> folding.Account:
    """The account as it is known to have been: its sums, and lots that are guessed in part."""
    lots = [
        folding.Lot(lot.bucket, lot.expires_at_ms, lot.priority, lot.available, lot.held, lot.since)
        for lot in then.accounts[ANA].lots
    ]
    return folding.Account(
        ANA, 0, 0, 0, at.version, at.available, at.held, lots, overdraft_limit=2**53 - 1
    )  # fmt: skip


@pytest.mark.parametrize("buckets", [2, 5, 300])
def test_whatever_was_guessed_of_lots_is_as_it_is_when_the_entries_are_folded_onto_it(buckets):
    for seed in range(200):
        random = Random(seed)
        life = Life(random, buckets)
        life.live(random.choice([1, 10, 300]))
        at = folding.Account(ANA, 0, 0, 0, life.account.version, life.account.available, life.account.held)
        entries = life.live(random.choice([1, 10, 100]))
        then = then_of(stored(life.account), life.account.version)
        for entry in reversed(entries):
            take_back(then, entry, 0)
        again = with_lots(then, at)
        for entry in entries:
            again.fold(entry)
        assert stored(life.account) == stored(again), seed
