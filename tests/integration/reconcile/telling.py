"""What stories of accounts are told with: a customer who asks for things, and the time that passes."""

from collections.abc import Generator, Sequence

from msgspec import Struct

from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Original,
    Refund,
    Reserve,
)
from app.ledger.refunds import left_of
from app.ledger.replies import Applied
from app.ledger.shards import TransactionId, new_reservation_id, shard_of
from tests.integration.journal.workers import SHARDS
from tests.integration.reconcile.past import NOW_MS

SHARD = 0


HOUR_MS = 3_600_000


class Passes(Struct):
    """So much time, instead of a call."""

    ms: int


Story = Generator[Sequence[Operation] | Passes, list[Applied]]


class Customer:
    """Asks for things that are its own. `now_ms`: when its story begins."""

    def __init__(self, account: str, now_ms: int) -> None:
        self._account = account
        self._jobs = 0
        self.now_ms = now_ms

    def job(self) -> str:
        self._jobs += 1
        return new_reservation_id(SHARD, NOW_MS + self._jobs)

    def grant(self, amount: int, **terms: object) -> Grant:
        return Grant(shard=SHARD, account=self._account, amount=amount, open=True, **terms)

    def deduct(self, amount: int, **terms: object) -> Deduct:
        return Deduct(shard=SHARD, account=self._account, amount=amount, **terms)

    def adjust(self, amount: int, **terms: object) -> Adjust:
        return Adjust(shard=SHARD, account=self._account, amount=amount, **terms)

    def configure(self, **settings: object) -> Configure:
        return Configure(shard=SHARD, account=self._account, open=True, **settings)

    def reserve(self, job: str, amount: int, **terms: object) -> Reserve:
        its = {"ttl_ms": HOUR_MS} | terms
        return Reserve(shard=SHARD, account=self._account, reservation=job, amount=amount, **its)

    def refund(self, *originals: Original, **terms: object) -> Refund:
        return Refund(shard=SHARD, account=self._account, originals=list(originals), **terms)


def confirm(job: str, amount: int | None = None, **terms: object) -> Confirm:
    return Confirm(shard=SHARD, reservation=job, amount=amount, **terms)


def part(job: str, amount: int, key: str) -> Confirm:
    return confirm(job, amount, final=False, key=key, fingerprint=f"print of {key}")


def cancel(job: str, **why: object) -> Cancel:
    return Cancel(shard=SHARD, reservation=job, **why)


def extend(job: str, ttl_ms: int) -> Extend:
    return Extend(shard=SHARD, reservation=job, ttl_ms=ttl_ms, task_shard=task_of(job)["task_shard"])


def bind(job: str, **terms: object) -> Bind:
    return Bind(shard=SHARD, reservation=job, **task_of(job), **terms)


def task_of(job: str) -> dict[str, object]:
    """Each job has its own."""
    task = f"task of {job}"
    return {"task": task, "provider": "fal", "task_shard": shard_of(f"fal:{task}", SHARDS)}


def spent(answers: list[Applied]) -> Original:
    """What the last operation of a call has spent, as it is given back."""
    entry, sequence = answers[-1].entry, answers[-1].sequence
    assert entry is not None, "a replay"
    transaction = TransactionId(SHARD, entry.incarnation, sequence)
    return Original(transaction=str(transaction), left=left_of(entry), reservation=entry.reservation)
