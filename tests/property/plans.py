"""What the machine may try: plans, drawn without knowing the ledger and made into operations later.

A plan says "as much as is available, and one more" or "the third reservation"; so that an example that
Hypothesis shrinks still reaches the edges it was about.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from app.ledger.entries import seal
from app.ledger.operations import Configure, Operation, Refund, Reserve, Write
from tests.property.requests import VERBS
from tests.property.world import (
    ACCOUNTS,
    DAY_MS,
    FUNDED,
    HOUR_MS,
    MAY_HAVE_ENDED,
    NOBODYS,
    PROVIDERS,
    TASKS,
    World,
    amounts,
)

BUCKETS = ["default", "plan/monthly", "extras"]
LASTING_KEYS = ["01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000001#3"]
KEYS = ["k", "k:1", 'quoted "key"', "back\\slash", "~" * 255, *LASTING_KEYS]


@dataclass(frozen=True)
class Plan:
    """One operation. `facts`: what its verb takes."""

    verb: str
    account: str
    key: str | None
    words: str | None
    facts: dict[str, Any]

    def operation(self, world: World) -> Operation:
        operation = VERBS[self.verb](world, self.account, self.words, **self.facts)
        if isinstance(operation, Write):
            operation.by = "key:shop"
            sealed = seal(self.words)
            if sealed:
                operation.notes, operation.notes_hash = sealed.text, sealed.hash
            key = None if isinstance(operation, Configure) else self.key or operation.key
            if key is not None:
                operation.fingerprint, operation.key = fingerprint(operation, self.words), key
        return operation


def fingerprint(operation: Write, words: str | None) -> str:
    """What the body comes to: a new attempt with a new reservation id and salt is the same request, and so is
    one that finds that something has been given back meanwhile.
    """
    body = msgspec.structs.replace(operation, key=None, notes=None, notes_hash=None)
    if isinstance(body, Reserve):
        body.reservation = ""
    if isinstance(body, Refund):
        body.originals = [msgspec.structs.replace(each, refunded=0) for each in body.originals]
    text = msgspec.json.encode([body, words])
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def maybe(strategy: st.SearchStrategy[Any], nones: int = 1) -> st.SearchStrategy[Any]:
    return st.one_of(*[st.none()] * nones, strategy)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


numbers = one_of(0, 1, 1, 1, 2, 2, 3, 4, MAY_HAVE_ENDED, MAY_HAVE_ENDED, NOBODYS)
flags = st.booleans()
seldom = one_of(*[False] * 7, True)
models = one_of(None, "video-1", "vendor/lip@2")
providers = st.sampled_from(PROVIDERS)
tasks = st.sampled_from([None] * 4 + TASKS)
buckets = st.sampled_from(BUCKETS)
ttls = one_of(1_000, 1_001, 5_000, HOUR_MS, HOUR_MS, DAY_MS)
over_capture = one_of("reject", "cap", "charge")
on_expired = one_of("reject", "charge", "charge")
spending = amounts("available", "floor", "all")
settled = {"number": numbers, "whole": flags, "foreign": seldom}

FACTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "grant": {
        "amount": amounts("available", "room", "debt"), "bucket": buckets,
        "priority": one_of(None, None, None, 1, 100, 1_000_000),
        "expires_in_ms": one_of(None, None, 1, 1_000, 1_001, 5_000, HOUR_MS, 0, -5),
        "rollover": maybe(amounts("available")),
    },
    "deduct": {"amount": spending, "model": models, "priced": flags},
    "reserve": {
        "amount": spending, "ttl_ms": ttls, "holds_max": one_of(*[10_000] * 12, 0, 1, 2), "task": tasks,
        "provider": providers, "model": models, "over_capture": over_capture, "on_expired": on_expired,
        "priced": flags,
    },
    "confirm": {
        **settled, "amount": maybe(amounts("held", "held", "reach")), "final": one_of(True, True, False),
        "over_capture": one_of(None, "cap", "charge", "charge"), "model": models,
        "on_expired": maybe(on_expired, 3),
    },
    "cancel": {**settled, "cause": one_of("requested", "failed")},
    "extend": {**settled, "ttl_ms": ttls, "by_ms": maybe(st.integers(-1, 1))},
    "refund": {
        "number": st.integers(0, 4), "by_reservation": flags, "bucket": maybe(buckets, 2),
        "amount": maybe(amounts("left", "left", "debt")),
    },
    "adjust": {
        "amount": amounts("available", "floor", "debt", "room"), "upwards": flags,
        "bucket": maybe(buckets), "short": one_of("reject", "take"),
    },
    "configure": {
        "overdraft_limit": maybe(amounts("debt", "debt", "room")),
        "status": one_of(None, None, None, "active", "active", "active", "active", "frozen", "closed"),
        "low_balance": one_of(None, None, 0, 10),
    },
    "bind": {**settled, "task": tasks, "provider": providers},
    "balance": {"whole": flags},
    "find": {"number": numbers},
    "locate": {"task": tasks, "provider": providers},
}  # fmt: skip

WEIGHTS = {
    "grant": 4, "deduct": 4, "reserve": 7, "confirm": 7, "cancel": 2, "extend": 3, "refund": 5, "adjust": 2,
    "configure": 3, "bind": 2, "balance": 1, "find": 1, "locate": 1,
}  # fmt: skip


def plans_of(verb: str) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan, verb=st.just(verb), account=st.sampled_from(FUNDED * 5 + ACCOUNTS),
        key=st.sampled_from([None] * 20 + KEYS),
        words=one_of(None, None, None, "thumb", 'größer "als" \\ 😀'),
        facts=st.fixed_dictionaries(FACTS[verb]),
    )  # fmt: skip


plans = st.sampled_from([verb for verb, weight in WEIGHTS.items() for _ in range(weight)]).flatmap(plans_of)

bursts = st.lists(plans, min_size=2, max_size=12)

steps_of_time = one_of(
    0, 1, 1, 999, 1_000, 1_000, 1_001, 4_000, 5_000, 31_000, HOUR_MS, DAY_MS - HOUR_MS, -1, -2_000
)
