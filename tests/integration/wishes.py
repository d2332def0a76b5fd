"""What products ask for beside grants, holds and their ends: debts, parts, extensions, refunds, settings."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from app.ledger import replies
from app.ledger.operations import (
    Adjust,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Original,
    Refund,
)
from app.ledger.refunds import left_of
from app.ledger.replies import Reservation
from app.ledger.shards import TransactionId

PRICES = [
    '{"model":"video","version":3,"base":"0.5","price":"1.25","units":"10"}',
    '{"model":"lip-sync","version":12,"base":"0","price":"0.000001","units":"123456.789"}',
]


class Wishes:
    """Draws operations by `random`, about what it has learnt from answers.

    Args:
        random: Whose numbers.
        shard_of_task: Where a task of a provider is kept.
    """

    def __init__(self, random: Random, shard_of_task: Callable[[str, str | None], int]) -> None:
        self._random = random
        self._shard_of_task = shard_of_task
        self._spent: dict[str, dict[str, Original]] = {}
        self.reservations: dict[str, Reservation] = {}
        """All that were seen, as they were seen last, in the order in which they were seen first."""

    def learn(self, operations: Sequence[Operation], reply: replies.Reply) -> None:
        """Take note of what a call has spent and held."""
        self.reservations |= {each.id: each for each in reply.reservations}
        for operation, result in zip(operations, reply.results, strict=True):
            entry = result.entry if isinstance(result, replies.Applied) else None
            if entry is None or entry.kind not in ("deducted", "confirmed") or not entry.amount:
                continue
            transaction = TransactionId(operation.shard, entry.incarnation, result.sequence)
            original = Original(
                transaction=str(transaction), left=left_of(entry), reservation=entry.reservation,
                task=entry.task, provider=entry.provider, model=entry.model,
            )  # fmt: skip
            self._spent.setdefault(entry.account, {})[original.transaction] = original

    def some_reservation(self) -> Reservation:
        """One that was seen of late, rather one that was open then."""
        seen = [*self.reservations.values()][-60:]
        pending = [each for each in seen if each.status == "pending"]
        return self._random.choice(pending if pending and self._random.random() < 0.6 else seen)

    def about_account(self, shard: int, account: str, now_ms: int) -> Operation:
        """A wish about an account; it may be unknown."""
        choose = self._random.choice
        match choose(
            ["rollover", "priced", "adjust", "adjust", "configure", "configure", "refund", "refund"]
        ):
            case "rollover":
                return Grant(
                    shard=shard, account=account, amount=choose([1, 7, 60]), open=True, bucket="plan",
                    rollover=choose([3, 40, 2**50]), expires_at_ms=choose([0, now_ms + 300, now_ms + 90_000]),
                )  # fmt: skip
            case "priced":
                return Deduct(shard=shard, account=account, amount=choose([3, 13]), price=choose(PRICES))
            case "adjust":
                amount = choose([1, 9, 51, -1, -9, -2000])
                return Adjust(
                    shard=shard, account=account, amount=amount, bucket=choose([None, None, "plan", "gifts"]),
                    short=choose(["reject", "take"]),
                )  # fmt: skip
            case "configure":
                return Configure(
                    shard=shard, account=account, open=True, low_balance=choose([None, 0, 20]),
                    overdraft_limit=choose([None, 0, 60, 2**41, 2**41]),
                    status=choose([None, "active", "active", "frozen", "closed"]),
                )  # fmt: skip
            case _:
                return self._refund(shard, account)

    def _refund(self, shard: int, account: str) -> Operation:
        choose, spent = self._random.choice, self._spent.get(account)
        if not spent:
            return Configure(shard=shard, account=account, status="active", open=True)
        originals = self._random.sample([*spent.values()], min(len(spent), choose([1, 1, 1, 2, 3])))
        return Refund(
            shard=shard, account=account, originals=originals, amount=choose([None, None, 1, 5]),
            bucket=choose([None, None, None, "gifts"]),
        )  # fmt: skip

    def terms(self) -> dict[str, Any]:
        """What a reserve may agree on."""
        choose = self._random.choice
        return {
            "over_capture": choose(["reject", "reject", "cap", "charge"]),
            "on_expired": choose(["reject", "charge"]),
            "price": choose([None, None, *PRICES]),
        }

    def about_reservation(self, shard: int, reservation: Reservation) -> Operation:
        """A wish about a reservation; it may have ended since it was seen."""
        choose, number = self._random.choice, self._random.randrange(10**9)
        match choose(["part", "part", "above", "extend"]):
            case "part":
                return Confirm(
                    shard=shard, reservation=reservation.id, amount=choose([1, 2]), final=False,
                    key=f"key:{number}", fingerprint=f"print-{number}",
                )  # fmt: skip
            case "above":
                return Confirm(
                    shard=shard, reservation=reservation.id, amount=reservation.reserved + choose([0, 1, 7]),
                    over_capture=choose([None, None, "cap", "charge"]),
                    on_expired=choose([None, None, "charge"]),
                )  # fmt: skip
            case _:
                task, provider = reservation.task, reservation.provider
                task_shard = -1 if task is None else self._shard_of_task(task, provider)
                return Extend(
                    shard=shard, reservation=reservation.id, ttl_ms=choose([100, 90_000, 86_400_000]),
                    task_shard=task_shard,
                )  # fmt: skip
