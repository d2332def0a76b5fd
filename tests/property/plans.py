"""What the machine may try: plans, drawn without knowing the ledger and made into operations later.

A plan says "as much as is available, and one more" or "the third reservation"; so that an example that
Hypothesis shrinks still reaches the edges it was about.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from hypothesis import strategies as st

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import seal
from app.ledger.operations import (
    Balance,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Find,
    Grant,
    Locate,
    Operation,
    Reserve,
    Write,
)
from app.ledger.shards import shard_of
from tests.reference import Reference

ACCOUNTS = ["ada", "eve", "org:7@example", "a", "b", "Z" * 128]
FUNDED = ACCOUNTS[:3]
BUCKETS = ["default", "plan/monthly", "extras"]
KEYS = ["k", "k:1", 'quoted "key"', "back\\slash", "~" * 255]
TASKS = ["t-1", "t:2", 'a "task"', "/"]
PROVIDERS = [None, "fal", "bfl"]
MODELS = [None, "video-1", "vendor/lip@2"]
HOUR_MS = 3_600_000
MAY_HAVE_ENDED, NOBODYS = 5, 6

plain_amounts = st.one_of(
    st.integers(1, 60),
    st.sampled_from([10**14, 123_456_789_012_345, 10**15, 10**15 + 1, 2**52, CREDITS_MAX - 1, CREDITS_MAX]),
    st.integers(1, CREDITS_MAX),
)


@dataclass(frozen=True)
class Amount:
    """A number, or one near an edge of the account or the reservation that it is for."""

    edge: Literal["none", "available", "all", "room", "held"]
    by: int

    def on(self, ledger: Reference, account: str, reservation: str | None = None) -> int:
        owner = ledger.accounts.get(account)
        available, held = (owner.available, owner.held) if owner else (0, 0)
        hold = ledger.holds.get(reservation or "")
        edges = {
            "none": 0, "available": available, "all": available + held,
            "room": CREDITS_MAX - available - held, "held": hold.held if hold else 0,
        }  # fmt: skip
        return max(1, min(CREDITS_MAX, edges[self.edge] + self.by))


amounts = st.one_of(
    st.builds(Amount, st.just("none"), st.integers(1, 60)),
    st.builds(Amount, st.just("none"), st.integers(1, 60)),
    st.builds(Amount, st.just("none"), plain_amounts),
    st.builds(Amount, st.sampled_from(["available", "room"]), st.integers(-2, 1)),
    st.builds(Amount, st.sampled_from(["all", "held"]), st.integers(-2, 1)),
)


@dataclass
class World:
    """What plans need to know to become operations."""

    ledger: Reference
    now_ms: int
    reservations: list[str] = field(default_factory=list)
    _made: int = 0

    def new_reservation(self, account: str) -> str:
        """Like `new_reservation_id`, but the same in every run of an example."""
        self._made += 1
        shard = shard_of(account, self.ledger.shards)
        return f"01a00000-0000-7{shard:03x}-8000-{self._made:012x}"

    def reservation(self, number: int) -> str:
        """0: the one asked for last, perhaps in this very call; else an open one, one of all, or nobody's."""
        holds = self.ledger.holds
        if number == 0 and self.reservations:
            return self.reservations[-1]
        some = [id_ for id_, hold in holds.items() if number == MAY_HAVE_ENDED or hold.status == "pending"]
        if some and number != NOBODYS:
            return some[-number % len(some)]
        return f"01a00000-0000-7{number % self.ledger.shards:03x}-9000-000000000000"


@dataclass(frozen=True)
class Plan:
    """One operation. Every verb takes from it what it needs."""

    verb: str
    account: str
    amount: Amount
    number: int
    key: str | None
    bucket: str
    priority: int | None
    expires_in_ms: int | None
    ttl_ms: int
    task: str | None
    provider: str | None
    model: str | None
    cause: Literal["requested", "failed"]
    whole: bool
    foreign: bool
    holds_max: int
    words: str | None

    def operation(self, world: World) -> Operation:
        operation = getattr(self, f"_{self.verb}")(world)
        assert isinstance(operation, Operation)
        if isinstance(operation, Write):
            operation.by = "key:shop"
            sealed = seal(self.words)
            if sealed:
                operation.notes, operation.notes_hash = sealed.text, sealed.hash
            if self.key is not None:
                operation.fingerprint, operation.key = fingerprint(operation, self.words), self.key
        return operation

    def _grant(self, world: World) -> Operation:
        expires = 0 if self.expires_in_ms is None else max(1, world.now_ms + self.expires_in_ms)
        amount = self.amount.on(world.ledger, self.account)
        return Grant(
            account=self.account, amount=amount, bucket=self.bucket, priority=self.priority,
            expires_at_ms=expires,
        )  # fmt: skip

    def _deduct(self, world: World) -> Operation:
        amount = self.amount.on(world.ledger, self.account)
        return Deduct(account=self.account, amount=amount, model=self.model)

    def _reserve(self, world: World) -> Operation:
        id_ = world.new_reservation(self.account)
        world.reservations.append(id_)
        return Reserve(
            account=self.account, reservation=id_, amount=self.amount.on(world.ledger, self.account),
            ttl_ms=self.ttl_ms, holds_max=self.holds_max, task=self.task,
            provider=self.provider, resource=self.words, model=self.model,
            metadata={"Wörter": self.words} if self.words else None,
        )  # fmt: skip

    def _confirm(self, world: World) -> Operation:
        id_, account = self._subject(world)
        amount = None if self.whole else self.amount.on(world.ledger, account or "", id_)
        return Confirm(reservation=id_, amount=amount, account=account, model=self.model)

    def _cancel(self, world: World) -> Operation:
        id_, account = self._subject(world)
        return Cancel(reservation=id_, cause=self.cause, reason=self.words, account=account)

    def _bind(self, world: World) -> Operation:
        id_, account = self._subject(world)
        task = self.task or TASKS[0]
        return Bind(reservation=id_, task=task, provider=self.provider, resource=self.words, account=account)

    def _balance(self, _: World) -> Operation:
        return Balance(account=self.account, open=self.whole)

    def _find(self, world: World) -> Operation:
        return Find(reservation=world.reservation(self.number))

    def _locate(self, _: World) -> Operation:
        return Locate(task=self.task or TASKS[0], provider=self.provider)

    def _subject(self, world: World) -> tuple[str, str | None]:
        """A reservation, and for half of the plans an account that should be its owner and may be another."""
        id_ = world.reservation(self.number)
        hold = world.ledger.holds.get(id_)
        if self.foreign:
            return id_, self.account
        return id_, hold.account if hold and self.whole else None


def fingerprint(operation: Write, words: str | None) -> str:
    """What the body comes to: a new attempt with a new reservation id and salt is the same request."""
    body = msgspec.structs.replace(operation, notes=None, notes_hash=None)
    if isinstance(body, Reserve):
        body.reservation = ""
    text = msgspec.json.encode([body, words])
    return hashlib.blake2b(text, digest_size=8).hexdigest()


verbs = st.sampled_from(
    ["grant"] * 4 + ["deduct"] * 3 + ["reserve"] * 6 + ["confirm"] * 4 + ["cancel"] * 3 + ["bind"] * 2
    + ["balance", "find", "locate"]
)  # fmt: skip

plans = st.builds(
    Plan,
    verb=verbs,
    account=st.sampled_from(FUNDED * 5 + ACCOUNTS),
    amount=amounts,
    number=st.sampled_from([0, 0, 1, 2, 3, 4, MAY_HAVE_ENDED, MAY_HAVE_ENDED, NOBODYS]),
    key=st.sampled_from([None] * 8 + KEYS),
    bucket=st.sampled_from(BUCKETS),
    priority=st.sampled_from([None, None, None, 1, 100, 2_000_000_000]),
    expires_in_ms=st.sampled_from([None, None, 1, 1_000, 1_001, 5_000, HOUR_MS, 0, -5]),
    ttl_ms=st.sampled_from([1_000, 1_001, 5_000, HOUR_MS, HOUR_MS]),
    task=st.sampled_from([None] * 4 + TASKS),
    provider=st.sampled_from(PROVIDERS),
    model=st.sampled_from(MODELS),
    cause=st.sampled_from(["requested", "failed"]),
    whole=st.booleans(),
    foreign=st.sampled_from([False] * 7 + [True]),
    holds_max=st.sampled_from([10_000] * 12 + [0, 1, 2]),
    words=st.sampled_from([None] * 3 + ["thumb", 'größer "als" \\ 😀']),
)

bursts = st.lists(plans, min_size=2, max_size=12)

steps_of_time = st.sampled_from(
    [0, 1, 1, 999, 1_000, 1_000, 1_001, 4_000, 5_000, 31_000, HOUR_MS, -1, -2_000]
)
