"""What some accounts go through, and what Redis showed of them after each step."""

import random
import time
from collections import defaultdict

from app.ledger.entries import Entry
from app.ledger.operations import (
    Adjust,
    Balance,
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
from app.ledger.replies import Account, Applied
from app.ledger.shards import TransactionId, new_reservation_id, shard_of
from tests.integration.streams import Caller

SHARDS = 2
ACCOUNTS = ("ana", "bea", "cid")


class Life:
    """`seen`: what each account had at each version that was looked at."""

    def __init__(self, caller: Caller, seed: int) -> None:
        self._caller = caller
        self._random = random.Random(seed)
        self._reservations: dict[str, list[str]] = defaultdict(list)
        self._spent: dict[str, list[Original]] = defaultdict(list)
        self.seen: dict[str, dict[int, Account]] = defaultdict(dict)

    async def go_on(self, steps: int) -> None:
        """As many operations, each looked at afterwards. Some are refused."""
        for number in range(steps):
            account = ACCOUNTS[number] if number < len(ACCOUNTS) else self._random.choice(ACCOUNTS)
            shard = shard_of(account, SHARDS)
            operation = self._operation(account, shard) if number >= len(ACCOUNTS) else self._grant(account)
            operation.shard = shard
            done, looked = (
                await self._caller.call([operation, Balance(shard=shard, account=account)])
            ).results
            if isinstance(done, Applied) and done.entry is not None:
                self._remember(done.sequence, shard, done.entry)
            assert isinstance(looked, Applied)
            shown = (await self._caller.call([Balance(shard=shard, account=account)])).accounts[0]
            self.seen[account][shown.version] = shown

    def _remember(self, sequence: int, shard: int, entry: Entry) -> None:
        if entry.kind == "reserved":
            self._reservations[entry.account].append(str(entry.reservation))
        if entry.kind == "deducted" and all(leg.bucket != "overdraft" for leg in entry.legs):
            left = [(leg.bucket, leg.expires_at_ms, -leg.available) for leg in entry.legs]
            name = str(TransactionId(shard, entry.incarnation, sequence))
            self._spent[entry.account].append(Original(transaction=name, left=left))

    def _grant(self, account: str) -> Grant:
        now_ms, choose = time.time_ns() // 1_000_000, self._random.choice
        return Grant(
            account=account, amount=choose([10, 40, 2**40 + 1]), open=True,
            bucket=choose(["default", "plan", "x/y"]), priority=choose([None, None, 10, 200]),
            rollover=choose([0, 0, 7]),
            expires_at_ms=choose([0, now_ms + 60, now_ms + 300, now_ms + 60_000]),
        )  # fmt: skip

    def _operation(self, account: str, shard: int) -> Operation:
        choose = self._random.choice
        open_, spent = self._reservations[account], self._spent[account]
        match choose(
            ["grant", "deduct", "deduct", "reserve", "reserve", "settle", "settle", "other", "refund"]
        ):
            case "deduct":
                return Deduct(account=account, amount=choose([1, 5, 30]), model=choose([None, "lip-sync"]))
            case "reserve":
                made = new_reservation_id(shard, time.time_ns() // 1_000_000)
                return Reserve(
                    account=account, reservation=made, amount=choose([2, 20]), ttl_ms=choose([40, 9_000])
                )
            case "settle" if open_:
                return self._settle(choose(open_))
            case "refund" if spent:
                return Refund(account=account, originals=[choose(spent)], amount=1)
            case "other":
                return choose(
                    [
                        Configure(account=account, overdraft_limit=choose([50, 60, 70])),
                        Configure(account=account, low_balance=choose([3, 4, 5])),
                        Configure(account=account, status=choose(["frozen", "active", "active"])),
                        Adjust(
                            account=account,
                            amount=choose([-9, 9]),
                            short="take",
                            bucket=choose([None, "plan"]),
                        ),
                    ]
                )
        return self._grant(account)

    def _settle(self, reservation: str) -> Operation:
        match self._random.choice(["confirm", "part", "cancel", "extend"]):
            case "confirm":
                return Confirm(
                    reservation=reservation, amount=self._random.choice([None, 1, 25]), over_capture="charge"
                )
            case "part":
                key = f"part-{self._random.random()}"
                return Confirm(
                    reservation=reservation, amount=1, final=False, key=key, fingerprint="0123456789abcdef"
                )
            case "cancel":
                return Cancel(reservation=reservation)
        return Extend(reservation=reservation, ttl_ms=20_000)
