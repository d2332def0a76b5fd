"""I2, I3 and the order of the journal, checked from the journal up. What is stored is not believed."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from app.ledger.entries import Entry
from tests.reference.accounts import LOTS_MAX, OVERDRAFT, Account
from tests.reference.holds import Hold
from tests.reference.proofs import Broken, demand, fold, prove_conserved, prove_refunds, settle

if TYPE_CHECKING:
    from tests.reference.books import Books

__all__ = ["Broken", "check"]


def check(books: "Books") -> None:
    """Check every account, every reservation, every refund and the whole."""
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
        if entry.kind != "refunded":
            of_reservation[entry.reservation or ""].append(entry)
    demand(
        of_account.keys() == books.accounts.keys(), "I7: an account without entries, or entries without one"
    )
    for hold in books.holds.values():
        holds[hold.account].append(hold)
        _check_hold(hold, of_reservation[hold.id])
    for id_, account in books.accounts.items():
        _check_account(account, of_account[id_], holds[id_])
    prove_refunds({books.transaction(line): line.entry for shard in books.journal for line in shard})
    prove_conserved(
        entries,
        available=sum(account.available for account in books.accounts.values()),
        held=sum(account.held for account in books.accounts.values()),
    )


def _check_account(account: Account, entries: list[Entry], holds: list[Hold]) -> None:
    """The account is what its entries prove."""
    name = f"account {account.id}"
    proved = fold(name, entries)
    demand(account.version == len(entries), f"I3: {name}: version")
    balance = (account.available, account.held)
    demand(balance == (proved.available, proved.held), f"I3: {name} is not what its entries say")
    settings = (account.overdraft_limit, account.status)
    demand(settings == (proved.overdraft_limit, proved.status), f"I3: {name}: settings")
    stored = {
        (lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in account.lots if not lot.empty
    }
    demand(stored == {lot: sums for lot, sums in proved.lots.items() if any(sums)}, f"I3: {name}: lots")
    rows = sum(lot.bucket != OVERDRAFT for lot in account.lots)
    demand(rows <= LOTS_MAX, f"I14: {name} has {rows} lots")
    pending = {hold.id: hold.deadline_ms for hold in holds if hold.status == "pending"}
    demand(account.open_holds == pending, f"I3: {name}: open holds")
    holding: Counter[tuple[str, int]] = Counter()
    for hold in holds:
        for part in hold.legs:
            holding[part.bucket, part.expires_at_ms] += part.held
    demand(
        {lot: sums[1] for lot, sums in proved.lots.items() if sums[1]} == dict(holding),
        f"I3: {name}: who holds what",
    )


def _check_hold(hold: Hold, entries: list[Entry]) -> None:
    """The reservation is what its entries prove."""
    name = f"reservation {hold.id}"
    proved = settle(name, entries)
    amounts = (hold.asked.amount, hold.captured, hold.charged, hold.released, hold.held)
    demand(amounts == proved[:5], f"I3: {name} is {amounts}, and proved {proved}")
    status = {"": "pending", "confirmed": "confirmed"}.get(proved.ended, "cancelled")
    demand(hold.status == status, f"I5: {name} is {hold.status}, and was {proved.ended}")
    spending = [each for each in entries if each.kind == "confirmed"]
    demand(not any(each.late for each in spending[:-1]), f"I5: {name}: late, and then not the last")
    demand(hold.late == (spending != [] and spending[-1].late), f"I5: {name}: late or not")
    parts = len(spending) - (hold.status == "confirmed")
    demand(parts == len(hold.parts), f"I3: {name} has {parts} parts")
