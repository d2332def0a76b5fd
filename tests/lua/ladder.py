"""The order of refusals, as a ladder per operation: each row repairs the fault of the row above it.

A refusal leaves every key as it was (I1). Only time may pass before it, and a fence be written down.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from app.ledger import keys
from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Extend, Grant, Operation, Reserve, Sweep
from app.ledger.replies import Account
from tests.lua.direct import ANA, SHARD, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import EVE, F, G

LOTS_MAX = 64
OF_A_RESERVATION = Confirm | Cancel | Bind | Extend


@dataclass
class Ladder:
    """An operation with every fault at once, and the repairs."""

    direct: Direct
    operation: Operation
    id: str
    fenced: dict[str, Account] = field(default_factory=dict)

    async def begin(self) -> None:
        """The faults that all operations share."""
        direct = self.direct
        await direct.send(*(Grant(account=EVE, amount=100, open=True) for _ in range(20)))
        due = {f"account:nobody{i}": direct.now_ms + 1000 for i in range(150)}
        await direct.redis.zadd(keys.due(SHARD), due)
        self.operation.key, self.operation.fingerprint = "used", F
        kind, id_ = ("r", self.id) if isinstance(self.operation, OF_A_RESERVATION) else ("a", ANA)
        record = f'{{"f":"{G}","w":"task_conflict","d":{{}}}}'
        await direct.redis.set(keys.operation(SHARD, kind, id_, "used"), record, px=100_000)
        direct.backlog_max = 1
        await direct.redis.hset(keys.meta(SHARD), "fence", "for a test")

    async def unfence_shard(self) -> None:
        await self.direct.redis.hset(keys.meta(SHARD), "fence", "")

    async def lower_backlog(self) -> None:
        self.direct.backlog_max = int(await self.direct.meta("sequence"))
        await self.direct.clock.advance(1000)

    async def no_backlog(self) -> None:
        self.direct.backlog_max = 1_000_000
        self.operation.key = None
        self.operation.fingerprint = None

    async def let_time_pass(self) -> None:
        self.direct.backlog_max = 1_000_000
        await self.direct.send(Sweep(shard=SHARD))
        await self.direct.send(Sweep(shard=SHARD))
        self.direct.backlog_max = int(await self.direct.meta("sequence"))

    async def use_another_key(self) -> None:
        self.operation.key = "unused"

    async def rewrite_account(self, **settings: object) -> None:
        """As if somebody had done it by hand."""
        name = keys.account(SHARD, ANA)
        account = msgspec.json.decode(await self.direct.redis.get(name), type=Account)
        await self.direct.redis.set(name, msgspec.json.encode(msgspec.structs.replace(account, **settings)))

    async def fence_account(self) -> None:
        await self.rewrite_account(fence="odd")

    async def unfence_account(self) -> None:
        await self.rewrite_account(fence=None)

    async def close_account(self) -> None:
        await self.rewrite_account(fence=None, status="closed")

    async def freeze_account(self) -> None:
        await self.rewrite_account(status="frozen")

    async def activate_account(self) -> None:
        await self.rewrite_account(status="active")

    async def open_and_fill_account(self) -> None:
        """As many lots as there may be, all but one credit of what an account may have."""
        await self.direct.do(Grant(account=ANA, amount=CREDITS_MAX - LOTS_MAX - 4, open=True))
        await self.direct.send(
            *(Grant(account=ANA, amount=1, bucket=f"b{i}", priority=1) for i in range(1, LOTS_MAX))
        )
        await self.fence_account()

    async def open_account(self, amount: int = 100) -> None:
        self.direct.backlog_max = 1_000_000
        self.operation.key = self.operation.fingerprint = None
        await self.direct.do(Grant(account=ANA, amount=amount, open=True))
        await self.fence_account()

    async def expire_later(self) -> None:
        self.operation.expires_at_ms = self.direct.now_ms + 60_000

    async def make_room(self) -> None:
        await self.direct.do(Deduct(account=ANA, amount=1))

    async def ask_less(self) -> None:
        self.operation.amount = 1

    async def free_task(self) -> None:
        await self.direct.redis.delete(*await self.direct.redis.keys("*:task:*"))

    async def allow_holds(self) -> None:
        self.operation.holds_max = 10

    async def reserve_it(self, **more) -> None:
        await self.direct.do(Reserve(account=ANA, reservation=self.id, amount=60, **more))


Rung = tuple[str, set[str], Callable[[Ladder], Awaitable[None]]]

COMMON: list[Rung] = [
    ("ledger_fenced", {"shard", "why"}, Ladder.unfence_shard),
    ("journal_backlogged", {"shard"}, Ladder.lower_backlog),
    ("later", set(), Ladder.let_time_pass),
    ("idempotency_mismatch", set(), Ladder.use_another_key),
]
BACKLOG: Rung = ("journal_backlogged", {"shard"}, Ladder.no_backlog)
FENCE: Rung = ("ledger_fenced", {"why"}, Ladder.unfence_account)
NOT_CLOSED: list[Rung] = [
    ("ledger_fenced", {"why"}, Ladder.close_account),
    ("account_closed", set(), Ladder.activate_account),
]
SPENDABLE: list[Rung] = [
    ("ledger_fenced", {"why"}, Ladder.close_account),
    ("account_closed", set(), Ladder.freeze_account),
    ("account_frozen", set(), Ladder.activate_account),
]
FUNDS = {"required", "available", "held"}


async def climb(ladder: Ladder, rungs: list[Rung]) -> None:
    """Refused at each rung, without a trace; in the end applied."""
    direct = ladder.direct
    await ladder.begin()
    for word, facts, repair in rungs:
        before = without_traces(await dump(direct.redis))
        refused = await direct.refused(ladder.operation)
        assert (word, facts, False) == (refused.word, set(refused.facts), refused.replayed)
        if word != "later":
            assert before == without_traces(await dump(direct.redis)), word
        await repair(ladder)
    await direct.do(ladder.operation)
    await check_keys(direct.redis)
