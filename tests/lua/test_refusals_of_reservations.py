"""The order of refusals of what is asked of a reservation: endings, state, tasks, limits, funds."""

from app.ledger import keys
from app.ledger.operations import (
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Extend,
    Grant,
)
from tests.lua.direct import ANA, SHARD
from tests.lua.ladder import (
    COMMON,
    FENCE,
    FUNDS,
    NOT_CLOSED,
    SPENDABLE,
    Ladder,
    Rung,
    climb,
)
from tests.lua.scenes import EVE, MINUTE_MS, deduct, grant, reserve

HELD = FUNDS | {"open_reservations", "next_release_at_ms"}


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
        *NOT_CLOSED,
        ("exceeds_reservation", {"required", "held"}, Ladder.ask_less),
    ])  # fmt: skip


async def hold_the_rest(ladder: Ladder) -> None:
    ladder.operation.amount = 100
    await reserve(ladder.direct, 10)


async def test_a_confirm_of_more_than_is_held_is_refused_in_this_order(direct):
    id_ = direct.new_id()
    operation = Confirm(reservation=id_, amount=101, account=EVE, over_capture="charge")
    await climb(Ladder(direct, operation, id_), [
        *OF_RESERVATIONS,
        *SPENDABLE,
        ("insufficient_credits", FUNDS, hold_the_rest),
        ("credits_held", HELD, Ladder.ask_less),
    ])  # fmt: skip


async def expire_it(ladder: Ladder) -> None:
    ladder.operation.account = ANA
    await ladder.direct.clock.advance(1_800_000)
    await ladder.direct.do(Deduct(account=EVE, amount=1))


async def fence_it(ladder: Ladder) -> None:
    ladder.operation.on_expired = "charge"
    await ladder.fence_account()


async def to_what_was_reserved(ladder: Ladder) -> None:
    ladder.operation.amount = 60
    await deduct(ladder.direct, 50)


async def hold_what_is_left(ladder: Ladder) -> None:
    await grant(ladder.direct, 10)
    await reserve(ladder.direct, 50)


async def of_an_account_that_is_there(ladder: Ladder) -> None:
    await ladder.open_account()
    await ladder.unfence_account()
    await ladder.reserve_it()


async def test_a_late_confirm_is_refused_in_this_order(direct):
    id_ = direct.new_id()
    await climb(Ladder(direct, Confirm(reservation=id_, amount=61, account=EVE), id_), [
        *COMMON,
        ("reservation_not_found", set(), of_an_account_that_is_there),
        ("reservation_not_found", {"foreign"}, expire_it),
        ("reservation_expired", {"at_ms"}, fence_it),
        *SPENDABLE,
        ("exceeds_reservation", {"required", "held"}, to_what_was_reserved),
        ("insufficient_credits", FUNDS, hold_what_is_left),
        ("credits_held", HELD, Ladder.ask_less),
    ])  # fmt: skip


async def test_a_cancel_is_refused_in_this_order(direct):
    id_ = direct.new_id()
    await climb(Ladder(direct, Cancel(reservation=id_, account=EVE), id_), [*OF_RESERVATIONS, FENCE])


async def test_a_bind_is_refused_in_this_order(direct):
    id_ = direct.new_id()

    async def with_task_of_another(ladder: Ladder) -> None:
        await ladder.activate_account()
        await reserve(direct, 1, task="t")

    operation = Bind(reservation=id_, task="t", account=EVE)
    await climb(Ladder(direct, operation, id_), [
        *OF_RESERVATIONS,
        NOT_CLOSED[0],
        ("account_closed", set(), with_task_of_another),
        ("task_conflict", {"reservation", "task"}, Ladder.free_task),
    ])  # fmt: skip


async def test_an_extension_is_refused_in_this_order(direct):
    id_ = direct.new_id()

    async def extend_it_a_hundred_times(ladder: Ladder) -> None:
        ladder.operation.ttl_ms = 30 * MINUTE_MS
        asked = (Extend(reservation=id_, ttl_ms=30 * MINUTE_MS) for _ in range(100))
        await direct.send(*asked)

    async def ask_again_of_another(ladder: Ladder) -> None:
        ladder.operation.reservation = await reserve(direct, 1)

    operation = Extend(reservation=id_, ttl_ms=1000, account=EVE)
    await climb(Ladder(direct, operation, id_), [
        *OF_RESERVATIONS,
        *SPENDABLE,
        ("invalid_extension", {"expires_at_ms", "latest_ms"}, extend_it_a_hundred_times),
        ("limit_reached", {"what", "limit"}, ask_again_of_another),
    ])  # fmt: skip
