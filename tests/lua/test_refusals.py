"""The order of refusals: existence, endings, the state of the account, tasks, limits, funds."""

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import (
    Adjust,
    Configure,
    Deduct,
    Grant,
    Original,
    Refund,
    Reserve,
)
from tests.lua.direct import ANA
from tests.lua.ladder import (
    BACKLOG,
    COMMON,
    FUNDS,
    LOTS_MAX,
    NOT_CLOSED,
    SPENDABLE,
    Ladder,
    climb,
)
from tests.lua.scenes import deduct, grant, original, reserve

HELD = FUNDS | {"open_reservations", "next_release_at_ms"}


async def test_a_grant_is_refused_in_this_order(direct):
    operation = Grant(account=ANA, amount=CREDITS_MAX, bucket="new", expires_at_ms=1)
    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_and_fill_account),
        *NOT_CLOSED,
        ("already_expired", {"expires_at_ms", "now_ms"}, Ladder.expire_later),
        ("limit_reached", {"what", "limit"}, Ladder.make_room),
        ("balance_overflow", {"available", "held"}, Ladder.ask_less),
    ])  # fmt: skip


async def hold_sixty(ladder: Ladder) -> None:
    await ladder.activate_account()
    await ladder.direct.do(Reserve(account=ANA, reservation=ladder.direct.new_id(), amount=60))


async def to_what_is_held(ladder: Ladder) -> None:
    ladder.operation.amount = 100


async def test_a_deduct_is_refused_in_this_order(direct):
    await climb(Ladder(direct, Deduct(account=ANA, amount=101), ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_account),
        *SPENDABLE[:2],
        ("account_frozen", set(), hold_sixty),
        ("insufficient_credits", FUNDS, to_what_is_held),
        ("credits_held", HELD, Ladder.ask_less),
    ])  # fmt: skip


async def test_a_reserve_is_refused_in_this_order(direct):
    operation = Reserve(
        account=ANA, reservation=direct.new_id(), amount=101, task="t", provider="fal", holds_max=1
    )

    async def with_task_of_another(ladder: Ladder) -> None:
        await ladder.activate_account()
        await reserve(direct, 60, task="t", provider="fal")

    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        BACKLOG,
        ("account_unknown", set(), Ladder.open_account),
        *SPENDABLE[:2],
        ("account_frozen", set(), with_task_of_another),
        ("task_conflict", {"reservation"}, Ladder.free_task),
        ("limit_reached", {"what", "limit"}, Ladder.allow_holds),
        ("insufficient_credits", FUNDS, to_what_is_held),
        ("credits_held", HELD, Ladder.ask_less),
    ])  # fmt: skip


async def test_a_refund_is_refused_in_this_order(direct):
    operation = Refund(account=ANA, originals=[Original(transaction="x", left=[("gone", 0, 5)])], amount=6)

    async def account_full_of_lots(ladder: Ladder) -> None:
        await ladder.open_account(CREDITS_MAX - LOTS_MAX + 1)
        await ladder.unfence_account()
        operation.originals = [original(await deduct(direct, 5))]
        buckets = (f"b{i}" for i in range(1, LOTS_MAX))
        await direct.send(*(Grant(account=ANA, amount=1, bucket=each) for each in buckets))
        operation.originals[0].left = [("gone", 0, 5)]
        await ladder.fence_account()

    async def ask_what_is_left(_: Ladder) -> None:
        operation.amount = None

    async def one_lot_less_that_is_as_full(_: Ladder) -> None:
        operation.originals[0].left = [("b1", 0, 5)]
        await grant(direct, 1)

    async def ask_less(ladder: Ladder) -> None:
        operation.amount = 4

    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        ("account_unknown", set(), account_full_of_lots),
        *NOT_CLOSED,
        ("exceeds_transaction", {"required", "refunded", "left"}, ask_what_is_left),
        ("limit_reached", {"what", "limit"}, one_lot_less_that_is_as_full),
        ("balance_overflow", {"available", "held"}, ask_less),
    ])  # fmt: skip


async def test_an_adjustment_that_adds_is_refused_in_this_order(direct):
    operation = Adjust(account=ANA, amount=CREDITS_MAX, bucket="new")

    async def account_full_of_lots(ladder: Ladder) -> None:
        await ladder.open_account()
        await ladder.unfence_account()
        buckets = (f"b{i}" for i in range(1, LOTS_MAX))
        await direct.send(*(Grant(account=ANA, amount=1, bucket=each) for each in buckets))
        await ladder.fence_account()

    async def into_one_that_is_there(_: Ladder) -> None:
        operation.bucket = "b1"

    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        ("account_unknown", set(), account_full_of_lots),
        *NOT_CLOSED,
        ("limit_reached", {"what", "limit"}, into_one_that_is_there),
        ("balance_overflow", {"available", "held"}, Ladder.ask_less),
    ])  # fmt: skip


async def test_an_adjustment_that_takes_is_refused_in_this_order(direct):
    async def hold_what_is_missing(_: Ladder) -> None:
        await reserve(direct, 60)
        operation.amount = -100

    async def take(_: Ladder) -> None:
        operation.short = "take"

    operation = Adjust(account=ANA, amount=-101)
    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        ("account_unknown", set(), Ladder.open_account),
        *NOT_CLOSED,
        ("insufficient_credits", FUNDS, hold_what_is_missing),
        ("credits_held", HELD, take),
    ])  # fmt: skip


async def test_settings_are_refused_in_this_order(direct):
    operation = Configure(account=ANA, low_balance=7)

    async def close_it(ladder: Ladder) -> None:
        await ladder.activate_account()
        operation.status = "closed"

    async def owe(_: Ladder) -> None:
        await direct.do(Configure(account=ANA, overdraft_limit=50))
        await deduct(direct, 110)
        operation.status, operation.overdraft_limit = "frozen", 9

    async def allow_it(_: Ladder) -> None:
        operation.overdraft_limit = 10

    await climb(Ladder(direct, operation, ""), [
        *COMMON,
        ("account_unknown", set(), Ladder.open_account),
        NOT_CLOSED[0],
        ("account_closed", set(), close_it),
        ("account_not_empty", {"available", "held"}, owe),
        ("overdraft_in_use", {"debt"}, allow_it),
    ])  # fmt: skip
