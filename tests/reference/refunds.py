"""refund: what was spent comes back, once."""

from typing import NamedTuple

from app.ledger.entries import Entry, Leg
from app.ledger.operations import Original, Refund
from tests.reference.accounts import DEFAULT, OVERDRAFT, Account, merged
from tests.reference.books import Books
from tests.reference.holds import Hold
from tests.reference.outcomes import Line, No
from tests.reference.rungs import account_of, has_room_for, not_closed


class Return(NamedTuple):
    """What one transaction gives back."""

    original: Original
    amount: int
    lots: list[Leg]


def refund(books: Books, asked: Refund, now_ms: int) -> Line:
    """One entry per transaction that gives something back, in their order; the answer shows the first."""
    account = account_of(books, asked.account)
    not_closed(account)
    if asked.refusal:
        raise No("not_refundable", **asked.refusal)
    before = [_refunded_before(books, original, now_ms) for original in asked.originals]
    left = sum(_total(original) for original in asked.originals) - sum(before)
    amount = left if asked.amount is None else asked.amount
    if amount > left or left == 0:
        required = amount or sum(before)
        raise No("exceeds_transaction", required=required, refunded=sum(before), left=left)
    returns = _shared_out(asked, before, amount)
    legs = account.after_debt(merged(leg for each in returns for leg in each.lots))
    has_room_for(account, legs, amount)

    lines = [_give_back(books, account, each, asked, now_ms, is_first=each is returns[0]) for each in returns]
    for original, refunded in zip(asked.originals, before, strict=True):
        part = sum(each.amount for each in returns if each.original is original)
        if part:
            books.refunded[original.transaction] = (refunded + part, now_ms)
    return lines[0]


def _total(original: Original) -> int:
    return sum(amount for _, _, amount in original.left)


def _refunded_before(books: Books, original: Original, now_ms: int) -> int:
    """For 24 h the ledger knows better than whoever asks; later the journal does."""
    known, at_ms = books.refunded.get(original.transaction, (0, 0))
    return known if known and now_ms < at_ms + books.remembers_ms else original.refunded


def _shared_out(asked: Refund, before: list[int], amount: int) -> list[Return]:
    """Who gives back how much into which lots: the last that left is the first to come back. What had come
    from the overdraft and is not owed any more has no lot to go back to: it goes to the default bucket.
    """
    returns = []
    for original, refunded in zip(asked.originals, before, strict=True):
        part = min(_total(original) - refunded, amount)
        amount -= part
        lots, skipped, rest = [], refunded, part
        for bucket, expires_at_ms, left in reversed(original.left):
            skips = min(left, skipped)
            skipped -= skips
            comes = min(left - skips, rest)
            rest -= comes
            lot = (asked.bucket, 0) if asked.bucket else (bucket, expires_at_ms)
            lots.append(Leg(*((DEFAULT, 0) if lot[0] == OVERDRAFT else lot), comes, 0))
        if part:
            returns.append(Return(original, part, merged(lots)))
    return returns


def _give_back(
    books: Books, account: Account, what: Return, asked: Refund, now_ms: int, *, is_first: bool
) -> Line:
    """The key and the notes stand in the first entry of several."""
    legs, original = account.after_debt(what.lots), what.original
    lapsed = sum(leg.available for leg in legs if 0 < leg.expires_at_ms <= now_ms)
    by = asked if is_first else Refund(account=asked.account, originals=[], by=asked.by)
    line = books.enter(
        account, "refunded", now_ms, what.amount, legs, by,
        refund_of=original.transaction, bucket=asked.bucket, lapsed=lapsed or None,
        reservation=original.reservation, task=original.task,
        provider=original.provider, model=original.model,
    )  # fmt: skip
    books.lapse(account, now_ms)
    return line


# What can be refunded, from the journal


def original_of(books: Books, line: Line) -> Original:
    """A line that spent credits, for whoever asks to have them back.

    What was captured or charged comes first among its legs; what follows, repaid a debt.
    """
    entry = line.entry
    left, rest = [], entry.amount
    for leg in entry.legs:
        part = max(0, min(-leg.available - leg.held, rest))
        rest -= part
        if part:
            left.append((leg.bucket, leg.expires_at_ms, part))
    assert rest == 0, "an entry spent what none of its legs lost"
    transaction = books.transaction(line)
    return Original(
        transaction=transaction, left=left, refunded=refunded_of(books, transaction),
        reservation=entry.reservation, task=entry.task, provider=entry.provider, model=entry.model,
    )  # fmt: skip


def originals_of(books: Books, hold: Hold) -> list[Original]:
    """Every confirm of a reservation, the latest first."""
    shard = books.journal[books.shard(hold.account)]
    lines = [line for line in shard if line.entry.reservation == hold.id and line.entry.kind == "confirmed"]
    return [original_of(books, line) for line in reversed(lines)]


def refunded_of(books: Books, transaction: str) -> int:
    """What the journal knows to have been given back."""
    entries: list[Entry] = [line.entry for shard in books.journal for line in shard]
    return sum(entry.amount for entry in entries if entry.refund_of == transaction)
