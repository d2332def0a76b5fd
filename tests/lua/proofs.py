"""What the entries of a shard prove, from the first one on: each itself, and together what Redis holds.

Every entry is believed only as far as its kind, its legs and what was there before it allow. What they all
come to (accounts with their lots and settings, reservations, what was given back of which transaction) is
what the keys must say.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.ledger.entries import Entry
from app.ledger.replies import Account, Reservation
from tests.reference.accounts import OVERDRAFT
from tests.reference.proofs import demand, moved, prove

DAY_MS = 86_400_000

_CLOSING = {"confirmed": "confirmed", "cancelled": "cancelled", "expired": "cancelled"}
_CHARGING = frozenset({"deducted", "reserved", "extended"})


class Line(NamedTuple):
    """One entry of a stream, as text and read."""

    sequence: int
    text: bytes
    entry: Entry
    notes: bytes | None


@dataclass
class Owner:
    """An account, as its entries tell it."""

    version: int = 0
    available: int = 0
    held: int = 0
    lots: dict[tuple[str, int], tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    overdraft_limit: int = 0
    status: str = "active"
    low_balance: int = 0
    moved: Counter[str] = field(default_factory=Counter)

    @property
    def filled(self) -> dict[tuple[str, int], tuple[int, int]]:
        return {lot: sums for lot, sums in self.lots.items() if any(sums)}


@dataclass
class Hold:
    """A reservation, as its entries tell it."""

    account: str
    reserved: int
    deadline_ms: int
    status: str = "pending"
    cause: str | None = None
    captured: int = 0
    charged: int = 0
    released: int = 0
    extensions: int = 0
    late: bool = False
    ended_sequence: int | None = None
    parts: list[tuple[int, str]] = field(default_factory=list)

    @property
    def held(self) -> int:
        return self.reserved - self.captured - self.released

    @property
    def told(self) -> tuple[object, ...]:
        return (
            self.account, self.status, self.cause, self.reserved, self.captured, self.charged, self.released,
            self.held, self.deadline_ms, self.extensions, self.late, self.ended_sequence, self.parts,
        )  # fmt: skip


def told(each: Reservation) -> tuple[object, ...]:
    """A stored reservation, to be compared with what its entries tell."""
    return (
        each.account, each.status, each.cancel_cause, each.reserved, each.captured, each.charged,
        each.released, each.held, each.expires_at_ms, each.extensions, each.late, each.ended_sequence,
        [(part.sequence, part.key) for part in each.parts],
    )  # fmt: skip


class Proof:
    """What the entries so far come to."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self.owners: dict[str, Owner] = defaultdict(Owner)
        self.holds: dict[str, Hold] = {}
        self.spent: dict[str, int] = {}
        self.refunded: Counter[str] = Counter()

    def add(self, line: Line) -> None:
        """Believe one more.

        Raises:
            Broken: It cannot be true.
        """
        entry, at = line.entry, f"entry {line.sequence}"
        owner = self.owners[entry.account]
        demand(
            entry.version == owner.version + 1, f"I7: {at}: version {entry.version} follows {owner.version}"
        )
        owner.version = entry.version
        self._allowed(owner, entry, at)
        if entry.kind == "configured":
            _configure(owner, entry, at)
        _move(owner, entry, at)
        if entry.reservation is not None and entry.kind != "refunded":
            self._settle(line, at)
        if entry.kind in {"deducted", "confirmed"}:
            self.spent[f"{self._shard}-{entry.incarnation}-{line.sequence}"] = entry.amount
        if entry.refund_of is not None:
            self.refunded[entry.refund_of] += entry.amount
            most = self.spent.get(entry.refund_of, -1)
            demand(self.refunded[entry.refund_of] <= most, f"I3: {at}: more than {most} of {entry.refund_of}")

    def _allowed(self, owner: Owner, entry: Entry, at: str) -> None:
        charges = entry.kind in _CHARGING or (entry.kind == "confirmed" and entry.charged)
        demand(owner.status == "active" or not charges, f"{at}: a {owner.status} account is charged")
        demand(
            owner.status != "closed" or entry.kind in {"configured", "repaired"},
            f"{at}: {entry.kind} on a closed account",
        )

    def _settle(self, line: Line, at: str) -> None:
        """I5: made once, ended once, and what was expired at most once confirmed after all."""
        entry = line.entry
        id_ = entry.reservation or ""
        if entry.kind == "reserved":
            demand(id_ not in self.holds, f"I5: {at}: made twice")
            self.holds[id_] = Hold(entry.account, entry.amount, entry.deadline_ms or 0)
            return
        hold = self.holds.get(id_)
        demand(hold is not None and hold.account == entry.account, f"I5: {at}: no reservation of the account")
        assert hold is not None
        if entry.kind == "extended":
            demand(hold.status == "pending", f"I5: {at}: extended what had ended")
            demand((entry.deadline_ms or 0) >= hold.deadline_ms, f"I5: {at}: a deadline goes back")
            hold.deadline_ms, hold.extensions = entry.deadline_ms or 0, hold.extensions + 1
        if entry.kind in _CLOSING:
            self._close(hold, line, at)

    def _close(self, hold: Hold, line: Line, at: str) -> None:
        entry = line.entry
        if entry.late:
            in_time = entry.at_ms <= hold.deadline_ms + DAY_MS
            demand(hold.cause == "expired" and in_time, f"I5: {at}: confirmed after another ending")
        else:
            demand(hold.status == "pending", f"I5: {at}: ended twice")
            demand(
                (entry.at_ms >= hold.deadline_ms) == (entry.kind == "expired"),
                f"I6: {at}: not at its deadline",
            )
        hold.captured += entry.captured or 0
        hold.charged += entry.charged or 0
        hold.released += entry.released or 0
        demand(hold.held >= 0, f"I3: {at}: more than was held")
        if hold.held:
            demand(entry.kind == "confirmed" and not entry.charged, f"I5: {at}: an ending that holds")
            hold.parts.append((line.sequence, entry.key or ""))
            return
        hold.status, hold.late, hold.ended_sequence = _CLOSING[entry.kind], entry.late, line.sequence
        hold.cause = {"cancelled": entry.cause, "expired": "expired"}.get(entry.kind)


def _configure(owner: Owner, entry: Entry, at: str) -> None:
    changed = {
        name: getattr(entry, name)
        for name in ("overdraft_limit", "status", "low_balance")
        if getattr(entry, name) is not None
    }
    for name, value in changed.items():
        demand(getattr(owner, name) != value, f"{at}: {name} was so before")
        setattr(owner, name, value)
    if "status" in changed and owner.status == "closed":
        demand((owner.available, owner.held) == (0, 0), f"{at}: closed, and not empty")


def _move(owner: Owner, entry: Entry, at: str) -> None:
    """I2 and I3: the legs are what the kind says, and leave nothing that may not be."""
    prove(entry, at)
    for leg in entry.legs:
        available, held = owner.lots[leg.bucket, leg.expires_at_ms]
        now = (available + leg.available, held + leg.held)
        if leg.bucket == OVERDRAFT:
            demand(now[0] <= 0, f"I2: {at}: a debt that is none")
        else:
            demand(min(now) >= 0, f"I2: {at}: a lot below zero")
        owner.lots[leg.bucket, leg.expires_at_ms] = now
    by_available, by_held = moved(entry)
    owner.available, owner.held = owner.available + by_available, owner.held + by_held
    demand(
        (entry.available, entry.held) == (owner.available, owner.held), f"I3: {at}: legs and balance differ"
    )
    demand(owner.available >= -owner.overdraft_limit, f"I2: {at}: below its floor")
    owed = owner.lots[OVERDRAFT, 0][0]
    demand(not owed or owner.available == owed, f"I2: {at}: owes {owed} and has something available")
    owner.moved[entry.kind] += entry.amount


def check_entries(
    shard: int,
    lines: Sequence[Line],
    accounts: dict[str, Account],
    reservations: dict[str, Reservation],
    refunded: dict[str, int],
) -> None:
    """The entries of a shard, from the first one on, prove what is stored.

    Raises:
        Broken: They do not.
    """
    proof = Proof(shard)
    for line in lines:
        proof.add(line)
    owners = proof.owners
    found = {id_: (each.version, each.available, each.held) for id_, each in accounts.items()}
    expected = {id_: (each.version, each.available, each.held) for id_, each in owners.items()}
    demand(found == expected, f"I3: shard {shard}: accounts {found} are not what the entries say {expected}")
    for id_, account in accounts.items():
        owner = owners[id_]
        stored = {(lot.bucket, lot.expires_at_ms): (lot.available, lot.held) for lot in account.lots}
        filled = {lot: sums for lot, sums in stored.items() if any(sums)}
        demand(filled == owner.filled, f"I3: account {id_}: lots {filled}, not {owner.filled}")
        gone = sum(owner.moved[kind] for kind in ("deducted", "confirmed", "lapsed"))
        came = sum(owner.moved[kind] for kind in ("granted", "refunded", "adjusted"))
        demand(
            came == account.available + account.held + gone,
            f"I3: account {id_}: what came is not where it went",
        )
        settings = (account.overdraft_limit, account.status, account.low_balance)
        demand(
            settings == (owner.overdraft_limit, owner.status, owner.low_balance),
            f"account {id_}: settings {settings}",
        )
    for each in reservations.values():
        hold = proof.holds.get(each.id)
        demand(hold is not None and hold.told == told(each), f"I5: {each}\nis told by its entries as\n{hold}")
    for transaction, total in refunded.items():
        demand(
            total == proof.refunded[transaction],
            f"I3: {total} was given back of {transaction}, not {proof.refunded[transaction]}",
        )
