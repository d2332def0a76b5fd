"""The rungs of the ladders of refusals that verbs share.

The order of refusals is the documented one: idempotency, existence, endings, the state of the account, tasks,
limits, funds.
"""

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Leg
from app.ledger.operations import Bind, Reserve
from tests.reference.accounts import LOTS_MAX, Account
from tests.reference.books import DAY_MS, Books
from tests.reference.holds import Hold
from tests.reference.outcomes import No


def account_of(books: Books, id_: str) -> Account:
    if id_ not in books.accounts:
        raise No("account_not_found")
    return books.accounts[id_]


def hold_of(books: Books, id_: str, of_account: str | None = None) -> Hold:
    """A reservation; somebody else's is not found."""
    hold = books.holds.get(id_)
    if hold is None or of_account not in {None, hold.account}:
        raise No("reservation_not_found")
    return hold


def not_cancelled(hold: Hold) -> None:
    if hold.cause == "expired":
        raise No("reservation_expired", at_ms=hold.settled_at_ms or 0)
    if hold.cause is not None:
        raise No("reservation_cancelled", cause=hold.cause, at_ms=hold.settled_at_ms or 0)


def not_confirmed(hold: Hold) -> None:
    if hold.status == "confirmed":
        raise No("reservation_confirmed", at_ms=hold.settled_at_ms or 0)


def not_closed(account: Account) -> None:
    """A closed account takes nothing that writes."""
    if account.status == "closed":
        raise No("account_closed")


def may_spend(account: Account) -> None:
    """A frozen account spends nothing that is not held already."""
    not_closed(account)
    if account.status == "frozen":
        raise No("account_frozen")


def task_is_free(books: Books, asked: Reserve | Bind, now_ms: int) -> None:
    """A task belongs to one reservation, as long as it is remembered."""
    if asked.task is None or (asked.provider, asked.task) not in books.tasks:
        return
    owner = books.tasks[asked.provider, asked.task]
    ends_at_ms = books.task_ends_at_ms(asked.provider, asked.task) - DAY_MS + books.remembers_ms
    if owner != asked.reservation and now_ms < ends_at_ms:
        facts = {"reservation": owner} | ({"task": asked.task} if isinstance(asked, Bind) else {})
        raise No("task_conflict", **facts)


def has_room_for(account: Account, legs: list[Leg], amount: int) -> None:
    """`amount` comes in, and is in these lots when the debt has taken its part."""
    if account.crowded_by(legs):
        raise No("limit_reached", what="lots", limit=LOTS_MAX)
    if account.available + account.held + amount > CREDITS_MAX:
        raise No("balance_overflow", available=account.available, held=account.held)


def affords(account: Account, amount: int, overdraft: int = 0, besides: Hold | None = None) -> None:
    """`amount` is available, or may be owed; if not, whether waiting for the holds would help.

    `besides`: a hold that the same operation spends.
    """
    if amount <= account.available + overdraft:
        return
    held = account.held - (besides.held if besides else 0)
    facts: dict[str, int | str] = {"required": amount, "available": account.available, "held": held}
    if amount > account.available + overdraft + held:
        raise No("insufficient_credits", **facts)
    deadlines = [at_ms for id_, at_ms in account.open_holds.items() if not besides or id_ != besides.id]
    raise No("credits_held", **facts, open_reservations=len(deadlines), next_release_at_ms=min(deadlines))
