"""Where Redis and the journal disagree, named: the account, the field, and both values.

Personal text (metadata, resource, reason) is not compared: in the journal it may have been erased, and it
moves no credits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from app.ledger.entries import FORMAT
from app.ledger.replies import Account, HeldLeg, Reservation
from persistence import folding
from persistence.reconcile.sighting import Hold, Sighting
from persistence.reconcile.state import State

Value = int | str | None


class Drift(Struct, frozen=True, rename="camel"):
    """One difference. `redis` is what Redis has; where `field` begins with `projection.` or `journal.` it is
    what that table says. `journal` is what the entries add up to. `None`: there is nothing.
    """

    account_id: str
    field: str
    redis: Value
    journal: Value


_SAME = (
    "account", "status", "reserved", "captured", "charged", "released", "held", "expires_at_ms",
    "created_at_ms", "settled_at_ms", "cancel_cause", "task", "provider", "model", "late", "extensions",
    "over_capture", "on_expired", "parts", "price",
)  # fmt: skip
_NAMED = {"reserved_sequence": "reserved_seq", "bound_sequence": "bound_seq", "ended_sequence": "ended_seq"}

_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode_account = msgspec.json.Decoder(Account).decode
_decode_reservation = msgspec.json.Decoder(Reservation).decode


def decoded_account(text: bytes) -> Account | None:
    """The account that Redis stores; `None` where there is none, or nothing that the script can read."""
    try:
        account = _decode_account(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return account if account.format == FORMAT else None


def decoded_reservation(text: bytes) -> Reservation | None:
    """The same of a reservation."""
    try:
        reservation = _decode_reservation(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return reservation if reservation.format == FORMAT else None


def as_jsonb(thing: Any) -> str:
    """JSON that PostgreSQL takes: what a hand has put into Redis may have characters that no jsonb has."""
    return _encode(thing).decode().replace("\\u0000", "\\ufffd")


def are_alike(found: Reservation, its: Reservation) -> bool:
    """Whether an ended reservation is in Redis what it is in the journal."""
    return not found.legs and all(
        getattr(found, member) == getattr(its, member) for member in (*_SAME, *_NAMED)
    )


def of_account(sighting: Sighting, state: State) -> Iterator[Drift]:
    """Every difference between what was seen and what it should be at that moment."""
    name = state.account.id
    account = decoded_account(sighting.text)
    if account is None:
        found = "unreadable" if sighting.text else None
        yield Drift(name, "account", found, f"version {state.account.version}")
    else:
        yield from _of_balance(name, account, state)
    expected = state.lapses_at_ms
    if (sighting.due_ms or 0) != expected:
        yield Drift(name, "due", sighting.due_ms, expected or None)
    yield from _of_holds(name, sighting, state)


def _of_balance(name: str, account: Account, state: State) -> Iterator[Drift]:
    expected = state.account
    for field, found, journal in (
        ("version", account.version, expected.version),
        ("available", account.available, expected.available),
        ("held", account.held, expected.held),
        ("openHolds", account.open_holds, len(state.open)),
        ("lapsesAt", account.lapses_at_ms, state.lapses_at_ms),
        ("overdraftLimit", account.overdraft_limit, expected.overdraft_limit),
        ("status", account.status, expected.status),
        ("lowBalance", account.low_balance, expected.low_balance),
    ):
        if found != journal:
            yield Drift(name, field, found, journal)
    if account.fence is not None:
        yield Drift(name, "fence", account.fence, None)
    yield from _of_lots(name, account, expected)


def lots_text(lots: Mapping[tuple[str, int], tuple[int, int, int, int]], key: tuple[str, int]) -> str | None:
    """A lot in words."""
    if key not in lots:
        return None
    priority, available, held, since = lots[key]
    return f"priority {priority}, available {available}, held {held}, since {since}"


def _of_lots(name: str, account: Account, expected: folding.Account) -> Iterator[Drift]:
    found = {
        (lot.bucket, lot.expires_at_ms): (lot.priority, lot.available, lot.held, lot.since)
        for lot in account.lots
    }
    journal = {
        (lot.bucket, lot.expires_at_ms): (lot.priority, lot.available, lot.held, lot.since)
        for lot in expected.lots
    }
    for key in sorted(found.keys() | journal.keys()):
        if found.get(key) != journal.get(key):
            field = f"lot.{key[0]}" + (f".{key[1]}" if key[1] else "")
            yield Drift(name, field, lots_text(found, key), lots_text(journal, key))
    stand = [(lot.bucket, lot.expires_at_ms) for lot in account.lots]  # one may stand there twice
    if found == journal and stand != [*journal]:
        order = ", ".join(bucket for bucket, _ in stand), ", ".join(bucket for bucket, _ in journal)
        yield Drift(name, "lots", *order)


def _of_holds(name: str, sighting: Sighting, state: State) -> Iterator[Drift]:
    seen = {each.id: each for each in sighting.holds}
    for id_ in sorted(seen.keys() | {each.id for each in state.open}):
        hold = seen.get(id_) or Hold(id_, None, None, b"")
        yield from _of_hold(name, hold, state)


def _of_hold(name: str, hold: Hold, state: State) -> Iterator[Drift]:
    prefix = f"reservation.{hold.id}"
    expected = state.reservations.get(hold.id)
    found = decoded_reservation(hold.text)
    deadline = expected.expires_at_ms if expected is not None and expected.status == "pending" else None
    if found is None:
        if hold.text or deadline is not None:
            yield Drift(
                name, prefix, "unreadable" if hold.text else None, expected.status if expected else None
            )
    elif expected is None:
        yield Drift(name, prefix, f"{found.status}, held {found.held}", None)
    else:
        yield from _of_reservation(name, found, expected, state.legs.get(hold.id, []))
    if hold.deadline_ms != deadline:
        yield Drift(name, f"{prefix}.hold", hold.deadline_ms, deadline)
    if hold.due_ms != deadline:
        yield Drift(name, f"{prefix}.due", hold.due_ms, deadline)


def _of_reservation(
    name: str, found: Reservation, expected: folding.Reservation, legs: list[HeldLeg]
) -> Iterator[Drift]:
    pairs = [(field, field) for field in _SAME] + list(_NAMED.items())
    for field, its in pairs:
        seen, journal = getattr(found, field), getattr(expected, its)
        if seen != journal:
            first, *rest = field.removesuffix("_ms").split("_")
            shown = first + "".join(map(str.capitalize, rest))
            yield Drift(name, f"reservation.{found.id}.{shown}", _shown(seen), _shown(journal))
    if found.legs != legs:
        yield Drift(name, f"reservation.{found.id}.legs", _legs_text(found.legs), _legs_text(legs))


def _shown(value: Any) -> Value:
    """A price and parts as their JSON; what is so or not, too."""
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    return None if value == [] else _encode(value).decode()


def _legs_text(legs: list[HeldLeg]) -> str:
    return ", ".join(f"{each.bucket} {each.held}" for each in legs)


def of_strays(name: str, sighting: Sighting) -> Iterator[Drift]:
    """What Redis has of an account that the journal has never heard of."""
    if sighting.due_ms is not None:
        yield Drift(name, "due", sighting.due_ms, None)
    for hold in sighting.holds:
        if hold.text or hold.deadline_ms is not None or hold.due_ms is not None:
            found = decoded_reservation(hold.text)
            yield Drift(name, f"reservation.{hold.id}", found.status if found else "unreadable", None)
