"""I2, I3 and the order of the journal, checked from the journal up. What is stored is not believed."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from tests.reference.accounts import Account, Hold

if TYPE_CHECKING:
    from tests.reference.books import Books

Lots = dict[tuple[str, int], tuple[int, int]]


class Broken(AssertionError):
    """A promise does not hold; the text says which and where."""


def demand(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


def check(books: "Books") -> None:
    """Check every account, every reservation and the whole."""
    entries = [line.entry for shard in books.journal for line in shard]
    for number, shard in enumerate(books.journal):
        demand(
            [line.sequence for line in shard] == [*range(1, len(shard) + 1)], f"I7: shard {number} has a gap"
        )
    of_account: dict[str, list[Entry]] = defaultdict(list)
    of_reservation: dict[str, list[Entry]] = defaultdict(list)
    holds: dict[str, list[Hold]] = defaultdict(list)
    for entry in entries:
        of_account[entry.account].append(entry)
        of_reservation[entry.reservation or ""].append(entry)
    demand(
        of_account.keys() == books.accounts.keys(), "I7: an account without entries, or entries without one"
    )
    for hold in books.holds.values():
        holds[hold.account].append(hold)
        _check_hold(hold, of_reservation[hold.id])
    for id_, account in books.accounts.items():
        _check_account(account, of_account[id_], holds[id_])
    check_conserved(
        entries,
        available=sum(account.available for account in books.accounts.values()),
        held=sum(account.held for account in books.accounts.values()),
    )


def check_conserved(entries: Iterable[Entry], available: int, held: int) -> None:
    """I3: granted = available + held + spent + lapsed, for an account or for the whole."""
    sums: Counter[str] = Counter()
    for entry in entries:
        sums[entry.kind] += entry.amount
    spent = sums["deducted"] + sums["confirmed"]
    equation = f"{sums['granted']} = {available} + {held} + {spent} + {sums['lapsed']}"
    demand(
        sums["granted"] == available + held + spent + sums["lapsed"],
        f"I3: granted = available + held + spent + lapsed: {equation}",
    )


def _check_account(account: Account, entries: list[Entry], holds: list[Hold]) -> None:
    """Each entry proves itself; together they prove the account."""
    name = f"account {account.id}"
    demand([each.version for each in entries] == [*range(1, account.version + 1)], f"I3: {name}: versions")
    lots: Lots = defaultdict(lambda: (0, 0))
    available = held = 0
    for entry in entries:
        at = f"{name}, version {entry.version}"
        for leg in entry.legs:
            was_available, was_held = lots[leg.bucket, leg.expires_at_ms]
            lot = lots[leg.bucket, leg.expires_at_ms] = (was_available + leg.available, was_held + leg.held)
            demand(min(lot) >= 0, f"I2: {at}: a lot below the floor")
        available += sum(leg.available for leg in entry.legs)
        held += sum(leg.held for leg in entry.legs)
        demand((entry.available, entry.held) == (available, held), f"I3: {at}: legs and balance differ")
        demand(available >= 0 and held >= 0, f"I2: {at}: below the floor")
        demand(available + held <= CREDITS_MAX, f"I12: {at}: above 2^53 - 1")
    demand((account.available, account.held) == (available, held), f"I3: {name} is not what its entries say")
    stored = {
        (lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in account.lots if not lot.empty
    }
    demand(stored == {lot: sums for lot, sums in lots.items() if any(sums)}, f"I3: {name}: lots")
    pending = {hold.id: hold.deadline_ms for hold in holds if hold.status == "pending"}
    demand(account.open_holds == pending, f"I3: {name}: open holds")
    holding: Counter[tuple[str, int]] = Counter()
    for hold in holds:
        for part in hold.legs:
            holding[part.bucket, part.expires_at_ms] += part.held
    demand(
        {lot: sums[1] for lot, sums in lots.items() if sums[1]} == dict(holding),
        f"I3: {name}: who holds what",
    )
    check_conserved(entries, available, held)


def _check_hold(hold: Hold, entries: list[Entry]) -> None:
    """I3 and I5 for one reservation."""
    name = f"reservation {hold.id}"
    endings = [each for each in entries if each.kind in {"confirmed", "cancelled", "expired"}]
    demand(len(endings) == (hold.status != "pending"), f"I5: {name} has {len(endings)} endings")
    demand(hold.asked.amount == hold.captured + hold.released + hold.held, f"I3: {name} does not add up")
    demand(sum(leg.held for each in entries for leg in each.legs) == hold.held, f"I3: {name}: legs")
    spent = sum(each.amount for each in entries if each.kind == "confirmed")
    demand(spent == hold.captured, f"I3: {name}: spent is not what was captured")
