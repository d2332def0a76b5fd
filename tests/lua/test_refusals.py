"""The order of refusals, as a ladder per operation: each row repairs the fault of the row above it.

A refusal leaves every key as it was (I1). Only time may pass before it, and a fence be written down.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from app.ledger import keys
from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Operation, Reserve, Sweep
from app.ledger.replies import Account
from app.ledger.shards import shard_of
from tests.lua.direct import ANA, SHARD, SHARDS, Direct
from tests.lua.dump import dump, without_traces
from tests.lua.invariants import check_keys

F, G = "f" * 16, "g" * 16
EVE = next(each for each in (f"eve{i}" for i in range(99)) if shard_of(each, SHARDS) == SHARD)
LOTS_MAX = 64


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
        kind, id_ = ("r", self.id) if isinstance(self.operation, Confirm | Cancel | Bind) else ("a", ANA)
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

    async def fence_account(self) -> None:
        name = keys.account(SHARD, ANA)
        account = msgspec.json.decode(await self.direct.redis.get(name), type=Account)
        await self.direct.redis.set(name, msgspec.json.encode(msgspec.structs.replace(account, fence="odd")))

    async def unfence_account(self) -> None:
        name = keys.account(SHARD, ANA)
        account = msgspec.json.decode(await self.direct.redis.get(name), type=Account)
        await self.direct.redis.set(name, msgspec.json.encode(msgspec.structs.replace(account, fence=None)))

    async def open_and_fill_account(self) -> None:
        """As many lots as there may be, all but one credit of what an account may have."""
        await self.direct.do(Grant(account=ANA, amount=CREDITS_MAX - LOTS_MAX - 4, open=True))
        await self.direct.send(
            *(Grant(account=ANA, amount=1, bucket=f"b{i}", priority=1) for i in range(1, LOTS_MAX))
        )
        await self.fence_account()

    async def open_account(self, amount: int = 100) -> None:
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


async def test_a_grant_is_refused_in_this_order(direct):
    operation = Grant(account=ANA, amount=CREDITS_MAX, bucket="new", expires_at_ms=1)
    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_and_fill_account),
        FENCE,
        ("already_expired", {"expires_at_ms", "now_ms"}, Ladder.expire_later),
        ("limit_reached", {"what", "limit"}, Ladder.make_room),
        ("balance_overflow", {"available", "held"}, Ladder.ask_less),
    ])  # fmt: skip


async def hold_sixty(ladder: Ladder) -> None:
    await ladder.unfence_account()
    await ladder.direct.do(Reserve(account=ANA, reservation=ladder.direct.new_id(), amount=60))


async def to_what_is_held(ladder: Ladder) -> None:
    ladder.operation.amount = 100


async def test_a_deduct_is_refused_in_this_order(direct):
    await climb(Ladder(direct, Deduct(account=ANA, amount=101), ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_account),
        ("ledger_fenced", {"why"}, hold_sixty),
        ("insufficient_credits", FUNDS, to_what_is_held),
        ("credits_held", FUNDS | {"open_reservations", "next_release_at_ms"}, Ladder.ask_less),
    ])  # fmt: skip


async def test_a_reserve_is_refused_in_this_order(direct):
    operation = Reserve(
        account=ANA, reservation=direct.new_id(), amount=101, task="t", provider="fal", holds_max=1
    )

    async def with_task_of_another(ladder: Ladder) -> None:
        await ladder.unfence_account()
        await direct.do(
            Reserve(account=ANA, reservation=direct.new_id(), amount=60, task="t", provider="fal")
        )

    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_account),
        ("ledger_fenced", {"why"}, with_task_of_another),
        ("task_conflict", {"reservation"}, Ladder.free_task),
        ("limit_reached", {"what", "limit"}, Ladder.allow_holds),
        ("insufficient_credits", FUNDS, to_what_is_held),
        ("credits_held", FUNDS | {"open_reservations", "next_release_at_ms"}, Ladder.ask_less),
    ])  # fmt: skip


async def reservation_of_a_lost_account(ladder: Ladder) -> None:
    ladder.operation.key = ladder.operation.fingerprint = None
    ladder.direct.backlog_max = 1_000_000
    await ladder.direct.do(Grant(account=ANA, amount=100, open=True))
    await ladder.reserve_it()
    name = keys.account(SHARD, ANA)
    ladder.lost = await ladder.direct.redis.get(name)
    await ladder.direct.redis.delete(name)


async def name_the_owner(ladder: Ladder) -> None:
    ladder.operation.account = ANA


async def find_the_account(ladder: Ladder) -> None:
    await ladder.direct.redis.set(keys.account(SHARD, ANA), ladder.lost)
    await ladder.fence_account()


OF_RESERVATIONS: list[Rung] = [
    *COMMON,  # the soft bound does not keep work from ending
    ("reservation_not_found", set(), reservation_of_a_lost_account),
    ("reservation_not_found", {"foreign"}, name_the_owner),
    ("account_unknown", {"account"}, find_the_account),
]


async def test_a_confirm_is_refused_in_this_order(direct):
    id_ = direct.new_id()
    await climb(Ladder(direct, Confirm(reservation=id_, amount=61, account=EVE), id_), [
        *OF_RESERVATIONS,
        FENCE,
        ("exceeds_reservation", {"required", "held"}, Ladder.ask_less),
    ])  # fmt: skip


async def test_a_cancel_is_refused_in_this_order(direct):
    id_ = direct.new_id()
    await climb(Ladder(direct, Cancel(reservation=id_, account=EVE), id_), [*OF_RESERVATIONS, FENCE])


async def test_a_bind_is_refused_in_this_order(direct):
    id_ = direct.new_id()

    async def with_task_of_another(ladder: Ladder) -> None:
        await ladder.unfence_account()
        await direct.do(Reserve(account=ANA, reservation=direct.new_id(), amount=1, task="t"))

    operation = Bind(reservation=id_, task="t", account=EVE)
    await climb(Ladder(direct, operation, id_), [
        *OF_RESERVATIONS,
        ("ledger_fenced", {"why"}, with_task_of_another),
        ("task_conflict", {"reservation", "task"}, Ladder.free_task),
    ])  # fmt: skip


@pytest.mark.parametrize("ending", ["confirmed", "cancelled", "failed", "expired"])
async def test_the_loser_of_a_race_is_told_which_ending_won_and_changes_nothing(direct, ending):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=100, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=60, ttl_ms=1000))
    at_ms = direct.now_ms
    match ending:
        case "confirmed":
            await direct.do(Confirm(reservation=id_))
        case "cancelled":
            await direct.do(Cancel(reservation=id_))
        case "failed":
            await direct.do(Cancel(reservation=id_, cause="failed"))
        case "expired":
            await direct.clock.advance(1000)
            await direct.send(Sweep(shard=SHARD))
            at_ms = direct.now_ms
    before = without_traces(await dump(direct.redis))
    told = {
        "confirmed": {Cancel: ("reservation_confirmed", {"at_ms": at_ms})},
        "cancelled": {Confirm: ("reservation_cancelled", {"cause": "requested", "at_ms": at_ms})},
        "failed": {Confirm: ("reservation_cancelled", {"cause": "failed", "at_ms": at_ms})},
        "expired": dict.fromkeys((Confirm, Cancel), ("reservation_expired", {"at_ms": at_ms})),
    }[ending]
    for verb, expected in told.items():
        refused = await direct.refused(verb(reservation=id_))
        assert expected == (refused.word, refused.facts)
    assert before == without_traces(await dump(direct.redis))


async def test_a_reservation_has_one_task_and_a_task_one_reservation(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    first, second = direct.new_id(), direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=first, amount=1))
    await direct.do(Reserve(account=ANA, reservation=second, amount=1, task="t", provider="fal"))
    assert "task_conflict" == (await direct.refused(Bind(reservation=first, task="t", provider="fal"))).word
    bound, _, _ = await direct.do(Bind(reservation=first, task="t"))  # no provider is a name space of its own
    again, _, _ = await direct.do(Bind(reservation=first, task="t"))
    assert (bound.entry, True) == (again.entry, again.replayed)
    for other in (Bind(reservation=first, task="u"), Bind(reservation=first, task="t", provider="fal")):
        refused = await direct.refused(other)
        assert ("task_conflict", first, "t") == (
            refused.word, refused.facts["reservation"], refused.facts["task"],
        )  # fmt: skip
    await check_keys(direct.redis)


async def test_a_resource_may_join_a_task_once(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=1, task="t"))
    joined, _, shown = await direct.do(Bind(reservation=id_, task="t", resource="img"))
    assert ("img", False) == (shown.resource, joined.replayed)
    assert (await direct.do(Bind(reservation=id_, task="t", resource="img")))[0].replayed
    assert (await direct.do(Bind(reservation=id_, task="t")))[0].replayed
    assert "task_conflict" == (await direct.refused(Bind(reservation=id_, task="t", resource="x"))).word
    await check_keys(direct.redis)


async def test_held_credits_are_told_with_the_next_release_of_those_that_are_still_open(direct):
    """Also when some of them begin and end in the same call."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    ids = [direct.new_id() for _ in range(4)]
    for i, id_ in enumerate(ids[:3]):
        await direct.do(Reserve(account=ANA, reservation=id_, amount=20, ttl_ms=1000 * (i + 1)))
    reply = await direct.send(
        Deduct(account=ANA, amount=90),
        Cancel(reservation=ids[0]),
        Confirm(reservation=ids[1]),
        Reserve(account=ANA, reservation=ids[3], amount=20, ttl_ms=2500),
        Deduct(account=ANA, amount=80),
        Cancel(reservation=ids[3]),
        Deduct(account=ANA, amount=80),
        Cancel(reservation=ids[2]),
        Deduct(account=ANA, amount=81),
    )
    told = [reply.results[i].facts for i in (0, 4, 6, 8)]
    now = direct.now_ms
    assert [(3, now + 1000), (2, now + 2500), (1, now + 3000)] == [
        (each["open_reservations"], each["next_release_at_ms"]) for each in told[:3]
    ]
    assert {"required": 81, "available": 80, "held": 0} == told[3]
    await check_keys(direct.redis)
