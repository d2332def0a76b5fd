"""What would happen, worked out from how things stand: shown before it is done, so that nobody is surprised.

The ledger decides when it is done, by what there is then. What it would refuse now is said here in its words.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from app.http.times import milliseconds, moment
from app.ledger.replies import Account, Reservation

LATE = timedelta(days=1)


class Change(Struct, frozen=True):
    """A number or a moment, before and after."""

    what: str
    before: int | datetime | str
    after: int | datetime | str


class Preview(Struct, frozen=True):
    """`refused`: why the ledger would say no. `notes`: what else there is to know."""

    title: str
    changes: list[Change]
    notes: list[str]
    refused: str | None = None


def is_late(reservation: Reservation, now: datetime) -> bool:
    """Whether its deadline alone has ended it, and a late confirm may still charge it."""
    return (
        reservation.status == "cancelled"
        and reservation.cancel_cause == "expired"
        and now <= moment(reservation.expires_at_ms) + LATE
    )


def confirm(
    reservation: Reservation,
    account: Account,
    amount: int | None,
    over: str,
    now: datetime,
    *,
    late: bool = False,
) -> Preview:
    """Spending what a reservation holds, or after its deadline the same from what is available.

    Args:
        reservation: As it stands now.
        account: Whose it is.
        amount: `None`: all of it.
        over: What happens to more than that: `reject`, `cap` or `charge`.
        now: By the ledger's clock.
        late: Whoever asks knows that it is late, and wants it.
    """
    late = late and is_late(reservation, now)
    whole = reservation.reserved - reservation.captured if late else reservation.held
    wanted = whole if amount is None else amount
    if over == "cap":
        wanted = min(wanted, whole)
    charged = wanted if late else max(0, wanted - whole)
    captured = wanted - charged
    lapsed = 0 if late else _lapsing(reservation, captured, now)
    released = 0 if late else reservation.held - captured
    refused = _ended(reservation, now, late=late)
    if wanted > whole and over == "reject":
        refused = f"{wanted:,} are asked for and {whole:,} are there: it would be refused."
    elif charged and account.status != "active":
        refused = f"The account is {account.status}: it would be refused."
    elif charged > account.available + released - lapsed + account.overdraft_limit:
        refused = f"{charged:,} would have to be available, and fewer are: it would be refused."
    notes = [f"{released:,} credits go back to the account."] if released else []
    if lapsed:
        notes.append(f"Of these {lapsed:,} lapse at once: the lots they came from are past their expiry.")
    if charged:
        notes.append(f"{charged:,} credits are taken from what is available.")
    return Preview(
        "Confirm late" if late else "Confirm",
        [
            Change("Reservation", reservation.status, "confirmed"),
            Change("Spent by it", _spent(reservation), _spent(reservation) + wanted),
            Change("Held", account.held, account.held - (0 if late else reservation.held)),
            Change("Available", account.available, account.available + released - lapsed - charged),
        ],
        notes,
        refused,
    )


def cancel(reservation: Reservation, account: Account, now: datetime) -> Preview:
    """Giving back what it holds."""
    lapsed = _lapsing(reservation, 0, now)
    notes = ["Whoever does the work is not told by this: stop the job where it runs."]
    if lapsed:
        notes.append(f"{lapsed:,} lapse at once: the lots that they came from are past their expiry.")
    return Preview(
        "Cancel",
        [
            Change("Reservation", reservation.status, "cancelled"),
            Change("Held", account.held, account.held - reservation.held),
            Change("Available", account.available, account.available + reservation.held - lapsed),
        ],
        notes,
        _ended(reservation, now, late=False),
    )


def extend(reservation: Reservation, account: Account, minutes: int, now: datetime) -> Preview:
    """Giving it more time, counted from now."""
    deadline, until = moment(reservation.expires_at_ms), now + timedelta(minutes=minutes)
    refused = _ended(reservation, now, late=False)
    if account.status != "active":
        refused = f"The account is {account.status}: it would be refused."
    elif until < deadline:
        refused = "That is earlier than its deadline: it would be refused."
    return Preview("Extend", [Change("Deadline", deadline, until)], [], refused)


def adjust(account: Account, amount: int, bucket: str | None, short: str) -> Preview:
    """Adding or taking credits."""
    if bucket is None:
        there = account.available + account.overdraft_limit
    else:
        there = sum(lot.available for lot in account.lots if lot.bucket == bucket)
    taken, notes, refused = amount, [], None
    if amount < 0 and -amount > there:
        if short == "take":
            taken = -max(0, there)
            notes.append(f"There are {max(0, there):,}: {-amount + taken:,} cannot be taken, and are noted.")
        else:
            refused = f"There are {max(0, there):,}: it would be refused."
    if account.status == "closed":
        refused = "The account is closed: it would be refused."
    if taken < 0 and account.available + taken < 0:
        notes.append("The account would owe credits, within its credit line.")
    return Preview(
        "Adjust", [Change("Available", account.available, account.available + taken)], notes, refused
    )


def freeze(account: Account) -> Preview:
    """Refusing charges."""
    return Preview(
        "Freeze",
        [Change("Status", account.status, "frozen")],
        [
            "Deduct, reserve, extend and every charge are refused.",
            "Grants, refunds, adjustments, cancels, and confirms of what is held go on.",
        ],
    )


def activate(account: Account) -> Preview:
    """Taking charges again."""
    return Preview("Activate", [Change("Status", account.status, "active")], ["It takes charges again."])


def _spent(reservation: Reservation) -> int:
    return reservation.captured + reservation.charged


def _ended(reservation: Reservation, now: datetime, *, late: bool) -> str | None:
    if reservation.status == "pending" or late:
        return None
    how = reservation.cancel_cause or reservation.status
    assert reservation.settled_at_ms is not None, "what has ended has ended some time"
    ended = (milliseconds(now) - reservation.settled_at_ms) // 60_000
    return f"The reservation has ended ({how}) {ended:,} min ago: it would be refused."


def _lapsing(reservation: Reservation, captured: int, now: datetime) -> int:
    """How much of what goes back would go to lots that have lapsed. Captures take the legs in order."""
    lapsed, now_ms = 0, milliseconds(now)
    for leg in reservation.legs:
        taken = min(captured, leg.held)
        captured -= taken
        if leg.expires_at_ms and leg.expires_at_ms <= now_ms:
            lapsed += leg.held - taken
    return lapsed
