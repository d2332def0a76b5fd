"""Traffic that leaves behind everything that Redis can hold: lots that lapse, debts, holds that end in every
way, refunds, settings, tasks in other shards, keys, and personal text.
"""

import random
import time

from app.ledger import replies
from app.ledger.entries import seal
from app.ledger.operations import (
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Reserve,
    Sweep,
    Write,
)
from app.ledger.shards import new_reservation_id, shard_of
from tests.integration.streams import Caller
from tests.integration.wishes import Wishes


class Traffic:
    """Calls of a process that has `caller`'s terms. One seed asks for the same, but for ids and times."""

    def __init__(self, caller: Caller, shards: int, seed: int, accounts: int = 20) -> None:
        self._caller = caller
        self._shards = shards
        self._random = random.Random(seed)
        self._accounts = [f"account-{number}" for number in range(accounts)]
        self._wishes = Wishes(self._random, self._shard_of_task)
        self._tasks: list[tuple[str, str | None]] = []
        self._keyed: list[Write] = []

    def calls_with(self, caller: Caller) -> None:
        """Go on as another process, with what this one knows."""
        self._caller = caller

    async def run(self, calls: int) -> None:
        """Make `calls` calls of 1 to 15 operations; some of them are refused."""
        for _ in range(calls):
            operations = [self._operation() for _ in range(self._random.randint(1, 15))]
            reply = await self._caller.call(operations)
            assert reply.status == "ok", reply.detail
            words = {each.word for each in reply.results if isinstance(each, replies.Declined)}
            assert not words & {"internal_error", "ledger_fenced"}, reply
            self._wishes.learn(operations, reply)

    async def leave_open(self) -> None:
        """Leave behind a job that is under way: extended, and paid for in part."""
        account, reservation = "leaves-open", new_reservation_id(shard_of("leaves-open", self._shards), 1)
        shard = shard_of(account, self._shards)
        plan, more = {"bucket": "plan", "expires_at_ms": 2**42}, {"amount": 20, "open": True}
        done = await self._caller.call(
            [
                Grant(shard=shard, account=account, **plan, **more),
                Grant(shard=shard, account=account, **more),
                Reserve(
                    shard=shard, account=account, reservation=reservation, amount=33, **self._wishes.terms()
                ),
                Confirm(
                    shard=shard, reservation=reservation, amount=21, final=False, key="k", fingerprint="f"
                ),
                Extend(shard=shard, reservation=reservation, ttl_ms=86_400_000),
            ]
        )
        assert all(isinstance(each, replies.Applied) for each in done.results), done

    def _operation(self) -> Operation:
        if self._keyed and self._random.random() < 0.05:
            return self._random.choice(self._keyed)
        operation = self._fresh()
        if isinstance(operation, Write) and self._random.random() < 0.5:
            operation.key = f"key:{self._random.randrange(10**9)}"
            operation.fingerprint = f"print-{self._random.randrange(10**9)}"
            self._keyed.append(operation)
        return operation

    def _fresh(self) -> Operation:
        choose = self._random.choice
        if self._wishes.reservations and self._random.random() < 0.45:
            return self._settle(self._wishes.some_reservation())
        account = choose(self._accounts)
        shard = shard_of(account, self._shards)
        if self._random.random() < 0.3:
            return self._wishes.about_account(shard, account, time.time_ns() // 1_000_000)
        amount = choose([1, 2, 5, 13, 51, 2**40 + 1])
        now_ms = time.time_ns() // 1_000_000
        match choose(["grant", "grant", "deduct", "reserve", "reserve", "reserve", "sweep"]):
            case "grant":
                sealed = seal(reason=choose([None, "für März"]))
                return Grant(
                    shard=shard, account=account, amount=amount * 3, open=True,
                    bucket=choose(["default", "plan", "x/y"]), priority=choose([None, None, 10, 200]),
                    expires_at_ms=choose([0, now_ms + 30, now_ms + 200, now_ms + 60_000, now_ms + 90_000]),
                    notes=sealed and sealed.text, notes_hash=sealed and sealed.hash,
                )  # fmt: skip
            case "deduct":
                return Deduct(shard=shard, account=account, amount=amount, model=choose([None, "lip-sync"]))
            case "reserve":
                return self._reserve(account, amount, new_reservation_id(shard, now_ms))
            case _:
                return Sweep(shard=shard)

    def _reserve(self, account: str, amount: int, reservation: str) -> Operation:
        choose = self._random.choice
        resource, metadata = choose([None, "image-1"]), choose([None, {"Wörter": 'größer "als" \\ 😀'}])
        sealed = seal(None, resource, metadata)
        task, provider = choose([(None, None), (None, None), self._task()])
        return Reserve(
            shard=shard_of(account, self._shards), account=account, reservation=reservation, amount=amount,
            ttl_ms=choose([10, 100, 60_000, 86_400_000]), model=choose([None, "video"]),
            task=task, provider=provider, task_shard=self._shard_of_task(task, provider),
            resource=resource, metadata=metadata,
            notes=sealed and sealed.text, notes_hash=sealed and sealed.hash, **self._wishes.terms(),
        )  # fmt: skip

    def _settle(self, seen: replies.Reservation) -> Operation:
        choose, reservation = self._random.choice, seen.id
        shard = int(reservation[15:18], 16)
        if self._random.random() < 0.5:
            return self._wishes.about_reservation(shard, seen)
        match choose(["confirm", "confirm", "cancel", "bind"]):
            case "confirm":
                amount, model = choose([None, None, 0, 1]), choose([None, "video-2"])
                return Confirm(shard=shard, reservation=reservation, amount=amount, model=model)
            case "cancel":
                sealed = seal(reason=choose([None, "the job has failed"]))
                return Cancel(
                    shard=shard, reservation=reservation, cause=choose(["requested", "failed"]),
                    reason="the job has failed" if sealed else None,
                    notes=sealed and sealed.text, notes_hash=sealed and sealed.hash,
                )  # fmt: skip
            case _:
                task, provider = self._task()
                sealed = seal(resource=choose([None, "image-2"]))
                return Bind(
                    shard=shard, reservation=reservation, task=task, provider=provider,
                    task_shard=self._shard_of_task(task, provider),
                    resource="image-2" if sealed else None,
                    notes=sealed and sealed.text, notes_hash=sealed and sealed.hash,
                )  # fmt: skip

    def _task(self) -> tuple[str, str | None]:
        if self._tasks and self._random.random() < 0.1:
            return self._random.choice(self._tasks)
        task = (f"task:{self._random.randrange(10**9)}", self._random.choice([None, "fal"]))
        self._tasks.append(task)
        return task

    def _shard_of_task(self, task: str | None, provider: str | None) -> int:
        return -1 if task is None else shard_of(f"{provider or ''}:{task}", self._shards)
