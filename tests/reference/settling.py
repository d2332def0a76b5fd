"""confirm, cancel and extend: what becomes of a reservation."""

from app.ledger.operations import Cancel, Confirm, Extend
from app.ledger.replies import Part
from tests.reference.accounts import merged
from tests.reference.books import DAY_MS, Books
from tests.reference.holds import Hold, released
from tests.reference.outcomes import Again, Line, No
from tests.reference.rungs import affords, hold_of, may_spend, not_cancelled, not_closed, not_confirmed

PARTS_MAX = 100
EXTENSIONS_MAX = 100


def confirm(books: Books, asked: Confirm, now_ms: int) -> Line:
    """Spend what is held, or a part of it, or (as the policies say) more than that or later than that."""
    hold = hold_of(books, asked.reservation, asked.account)
    if hold.status == "confirmed":
        raise Again(books.line(hold, hold.ended_sequence))
    if hold.status == "pending":
        return _confirm_in_time(books, hold, asked, now_ms)
    on_expired = asked.on_expired or hold.asked.on_expired
    if hold.cause != "expired" or on_expired != "charge" or now_ms > hold.deadline_ms + DAY_MS:
        not_cancelled(hold)
    return _confirm_late(books, hold, asked, now_ms)


def _confirm_in_time(books: Books, hold: Hold, asked: Confirm, now_ms: int) -> Line:
    account, held = books.accounts[hold.account], hold.held
    captured, charged = _divided(books, hold, asked, held)
    final = asked.final or captured == held
    if not final and len(hold.parts) >= PARTS_MAX:
        raise No("limit_reached", what="parts", limit=PARTS_MAX)
    if charged:
        affords(account, charged, account.overdraft_limit, besides=hold)

    spent, rest = hold.capture(captured)
    given_back = released(rest) if final else []
    legs = account.after_debt(merged([*spent, *given_back, *account.taken(charged)]))
    gone = sum(leg.held for leg in rest) if final else 0
    hold.model = asked.model or hold.model
    line = books.enter(
        account, "confirmed", now_ms, captured + charged, legs, asked,
        captured=captured, charged=charged, released=gone, **hold.references,
    )  # fmt: skip
    hold.captured += captured
    hold.charged += charged
    hold.released += gone
    if final:
        books.settle(hold, "confirmed", line, now_ms)
    else:
        assert asked.key is not None, "a part without a key"
        hold.legs = rest
        hold.parts = [*hold.parts, Part(line.sequence, asked.key, asked.fingerprint or "")]
    return line


def _confirm_late(books: Books, hold: Hold, asked: Confirm, now_ms: int) -> Line:
    """The work was done, though too late to be held: it is paid from what is available now. The only way out
    of an ending (I5).
    """
    account = books.accounts[hold.account]
    not_closed(account)
    if asked.amount != 0:
        may_spend(account)
    charged = sum(_divided(books, hold, asked, hold.unspent))
    affords(account, charged, account.overdraft_limit)
    hold.model = asked.model or hold.model
    line = books.enter(
        account, "confirmed", now_ms, charged, account.taken(charged), asked,
        captured=0, charged=charged, released=0, late=True, **hold.references,
    )  # fmt: skip
    hold.status, hold.late, hold.cause, hold.reason = "confirmed", True, None, None
    hold.charged += charged
    hold.settled_at_ms, hold.ended_sequence = now_ms, line.sequence
    return line


def _divided(books: Books, hold: Hold, asked: Confirm, held: int) -> tuple[int, int]:
    """What of the amount comes from what is (or was) held, and what beyond that, as the policy allows it."""
    amount = held if asked.amount is None else asked.amount
    if amount <= held:
        return amount, 0
    policy = asked.over_capture or hold.asked.over_capture
    if policy == "cap":
        return held, 0
    if policy == "charge":
        may_spend(books.accounts[hold.account])
        return held, amount - held
    raise No("exceeds_reservation", required=amount, held=held)


def cancel(books: Books, asked: Cancel, now_ms: int) -> Line:
    hold = hold_of(books, asked.reservation, asked.account)
    not_confirmed(hold)
    if hold.status == "cancelled" and hold.cause != "expired":
        raise Again(books.line(hold, hold.ended_sequence))
    not_cancelled(hold)
    hold.cause, hold.reason = asked.cause, asked.reason
    return books.give_back(hold, "cancelled", now_ms, asked, cause=asked.cause)


def extend(books: Books, asked: Extend, now_ms: int) -> Line:
    """Move the deadline, never to an earlier moment. Nothing else changes."""
    hold = hold_of(books, asked.reservation, asked.account)
    not_confirmed(hold)
    not_cancelled(hold)
    account = books.accounts[hold.account]
    may_spend(account)
    deadline_ms = now_ms + asked.ttl_ms
    if deadline_ms < hold.deadline_ms:
        raise No("invalid_extension", expires_at_ms=hold.deadline_ms, latest_ms=deadline_ms)
    if hold.extensions >= EXTENSIONS_MAX:
        raise No("limit_reached", what="extensions", limit=EXTENSIONS_MAX)
    hold.deadline_ms = deadline_ms
    hold.extensions += 1
    line = books.enter(account, "extended", now_ms, 0, [], asked, deadline_ms=deadline_ms, **hold.references)
    books.await_deadline(hold)
    return line
