"""Settings, parts, policies, prices, late confirms, extensions and refunds: what differs of them is named, on
either side, and put right.
"""

import msgspec
import pytest

from app.ledger import keys
from app.ledger.entries import Price
from app.ledger.operations import Refund
from app.ledger.replies import Declined, Part
from persistence.reconcile import truth
from persistence.reconcile.command import some
from persistence.reconcile.tools import Tools
from persistence.reconcile.work import fence_drifted
from tests.integration.journal.workers import keep_journal
from tests.integration.reconcile.past import ANA
from tests.integration.reconcile.products import PRICE, Products
from tests.integration.reconcile.test_compare import tamper, told


@pytest.fixture
async def products(caller, redis, worker):
    """All of it is journaled."""
    products = await Products(caller, redis).happen()
    await keep_journal(worker)
    return products


async def test_a_past_of_everything_is_equal(products, reconcile):
    account = await products.account(ANA)
    assert (-10, 40, 5) == (account.available, account.overdraft_limit, account.low_balance)
    run = await reconcile()
    assert ("equal", []) == (run.status, run.drift)
    totals = run.position.totals
    assert totals.came == totals.there_or_gone > 0
    assert totals.refunded == 6


OTHER_PRICE = Price(model="video", version=4, base="0", price="1.5", units="20")

OF_ACCOUNT = {
    "overdraftLimit": ({"overdraft_limit": 4000}, (4000, 40)),
    "status": ({"status": "frozen"}, ("frozen", "active")),
    "lowBalance": ({"low_balance": 0}, (0, 5)),
}
OF_RESERVATION = {
    "parts": ("part", {"parts": []}),
    "overCapture": ("part", {"over_capture": "charge"}),
    "onExpired": ("part", {"on_expired": "reject"}),
    "price": ("part", {"price": OTHER_PRICE}),
    "extensions": ("part", {"extensions": 0}),
    "late": ("late", {"late": False}),
    "charged": ("late", {"charged": 7}),
}


async def test_every_setting_that_was_changed_in_redis_is_named_and_put_right(products, reconcile, repair):
    await products.put_account(
        ANA, **{name: value for each, _ in OF_ACCOUNT.values() for name, value in each.items()}
    )
    run = await reconcile(full=False)
    assert {(ANA, field): values for field, (_, values) in OF_ACCOUNT.items()} == told(run)
    await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    account = await products.account(ANA)
    assert (40, "active", 5) == (account.overdraft_limit, account.status, account.low_balance)


@pytest.mark.parametrize("field", OF_RESERVATION)
async def test_every_member_of_a_reservation_that_was_changed_in_redis_is_named_and_put_right(
    products, reconcile, repair, field
):
    which, changes = OF_RESERVATION[field]
    id_ = getattr(products, which)
    before = await products.reservation(id_)
    await products.put_reservation(id_, **changes)
    run = await reconcile(full=False)
    assert {(ANA, f"reservation.{id_}.{field}")} == told(run).keys()
    await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    assert before == await products.reservation(id_)


async def test_what_is_left_of_a_hold_is_compared_lot_by_lot(products, reconcile, repair):
    held = (await products.reservation(products.part)).legs
    assert [22] == [leg.held for leg in held]
    await products.put_reservation(products.part, legs=[msgspec.structs.replace(held[0], held=30)])
    run = await reconcile(full=False)
    assert {(ANA, f"reservation.{products.part}.legs"): ("plan 30", "plan 22")} == told(run)
    await repair(run)
    assert held == (await products.reservation(products.part)).legs


REFUNDED = {
    "too little": (2, 2),
    "too much": (20, 20),
    "forgotten": (None, None),
    "garbage": ("x", "unreadable"),
}


@pytest.mark.parametrize("how", REFUNDED)
async def test_a_wrong_memory_of_what_was_given_back_is_named_and_put_right(
    products, redis, caller, reconcile, repair, how
):
    value, shown = REFUNDED[how]
    await products.put_refunded(products.refunded, value)
    run = await reconcile(full=False)
    field = f"refunded.{products.refunded}"
    assert {(ANA, field): (shown, 6)} == told(run)
    await repair(run)
    assert b"6" == await redis.get(keys.refunded(0, products.refunded))
    assert await redis.pttl(keys.refunded(0, products.refunded)) > 0
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    refund = Refund(shard=0, account=ANA, originals=[products.spent], amount=15)
    (answer,) = (await caller.call([refund])).results
    assert isinstance(answer, Declined)
    assert ("exceeds_transaction", 14) == (answer.word, answer.facts["left"])


async def test_a_memory_of_a_refund_that_never_was_is_named_and_put_right(products, redis, reconcile, repair):
    """It would refuse what may be given back."""
    await products.put_refunded(products.not_refunded, 30)
    run = await reconcile(full=False)
    assert {(ANA, f"refunded.{products.not_refunded}"): (30, 0)} == told(run)
    await repair(run)
    assert b"0" == await redis.get(keys.refunded(0, products.not_refunded))
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)


async def test_memories_of_what_is_nobodys_are_no_drift(products, reconcile):
    for stranger in ("0-1-99999", "0-7-1", "1-1-1", "nonsense", products.refunded.replace("0-1-", "0-9-")):
        await products.put_refunded(stranger, 5)
    assert "equal" == (await reconcile()).status


async def test_a_refund_that_is_under_way_is_no_drift(products, caller, worker, reconcile, kept):
    for _ in range(3):
        await products.refund(1)
        run = await reconcile(full=False)
        assert ("equal", []) == (run.status, run.drift)


async def test_who_reconciles_one_account_is_told_of_its_refunds_too(
    products, connection, redis, hands, database, kept
):
    await products.put_refunded(products.refunded, 0)
    await products.put_refunded(products.not_refunded, 3)
    findings = await some(Tools(connection, redis, hands, database), [ANA])
    assert {
        (f"refunded.{products.refunded}", 0, 6), (f"refunded.{products.not_refunded}", 3, 0)
    } == {(each.field, each.redis, each.journal) for each in findings.drift}  # fmt: skip


async def test_an_account_of_which_too_much_could_be_given_back_refuses(
    products, reconcile, hands, connection, place
):
    await products.put_refunded(products.refunded, None)
    run = await reconcile(full=False)
    assert [ANA] == await fence_drifted(connection, hands, await place(ANA), run.drift)
    assert "refunded." in ((await products.account(ANA)).fence or "")


IN_TABLES = {
    "overdraftLimit": "UPDATE accounts SET overdraft_limit = 77 WHERE account = 'ana'",
    "status": "UPDATE accounts SET status = 'closed' WHERE account = 'ana'",
    "lowBalance": "UPDATE accounts SET low_balance = 0 WHERE account = 'ana'",
    "part.parts": "UPDATE reservations SET parts = NULL WHERE id = '{part}'",
    "part.terms": "UPDATE reservations SET on_expired = 'reject' WHERE id = '{part}'",
    "part.terms ": "UPDATE reservations SET over_capture = 'charge' WHERE id = '{part}'",
    "part.terms  ": "UPDATE reservations SET price = NULL WHERE id = '{part}'",
    "part.extensions": "UPDATE reservations SET extensions = 3 WHERE id = '{part}'",
    "part.expiresAt": "UPDATE reservations SET expires_at = expires_at + '1 h' WHERE id = '{part}'",
    "late.late": "UPDATE reservations SET late = false WHERE id = '{late}'",
    "refunded": "UPDATE refunds SET refunded = 1 WHERE seq = {refunded}",
    "refunded ": "DELETE FROM refunds WHERE seq = {refunded}",
    "other": "INSERT INTO refunds VALUES (0, {other}, 30)",
}


@pytest.mark.parametrize("field", IN_TABLES)
async def test_whatever_was_changed_in_a_table_is_named_and_written_anew_by_the_entries(
    products, connection, reconcile, repair, field
):
    which, _, member = field.strip().partition(".")
    names = {"refunded": f"refunded.{products.refunded}", "other": f"refunded.{products.not_refunded}"}
    named = f"reservation.{getattr(products, which)}.{member}" if member else names.get(which, which)
    sequences = {
        name: transaction.split("-")[2]
        for name, transaction in (("refunded", products.refunded), ("other", products.not_refunded))
    }
    ids = {"part": products.part, "late": products.late}
    account = await products.account(ANA)
    await tamper(connection, IN_TABLES[field].format(**ids, **sequences))
    run = await reconcile()
    assert (ANA, f"projection.{named}") in told(run)
    await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)
    assert account == await products.account(ANA)
    assert "projection" == await connection.fetchval("SELECT side FROM repairs")


async def test_redis_is_not_blamed_for_a_table_of_refunds_that_somebody_changed(
    products, connection, reconcile, hands, place
):
    await tamper(connection, "UPDATE refunds SET refunded = 1")
    run = await reconcile(full=False)
    assert {f"refunded.{products.refunded}"} == {each.field for each in run.drift}
    assert [] == await fence_drifted(connection, hands, await place(ANA), run.drift)


async def test_a_text_in_a_table_that_nobody_can_read_is_named_and_written_anew(
    products, connection, reconcile, repair
):
    await tamper(connection, "UPDATE reservations SET parts = 'x' WHERE id = $1", products.part)
    run = await reconcile()
    assert {(ANA, "journal.entry")} == told(run).keys()
    await repair(run)
    assert ("equal", []) == ((again := await reconcile()).status, again.drift)


@pytest.mark.parametrize("at_once", [1, 3, 2_000])
async def test_tables_that_are_right_are_not_rewritten_however_long_the_past_is(
    products, connection, monkeypatch, at_once
):
    """What goes on after its end, a late confirm, is folded in pages."""
    monkeypatch.setattr(truth, "ENTRIES_AT_ONCE", at_once)
    async with connection.transaction():
        rewritten = await truth.rewrite(connection, 0, ANA)
    assert rewritten.before == rewritten.after
    assert await truth.is_projected(connection, ANA, 0)


async def test_a_repair_keeps_what_it_does_not_put_right(products, reconcile, repair):
    """The whole account is written, with all that it may have."""
    part, late = await products.reservation(products.part), await products.reservation(products.late)
    account = await products.account(ANA)
    await products.put_account(ANA, available=7)
    await repair(await reconcile(full=False))
    after = await products.account(ANA)
    assert msgspec.structs.replace(account, version=after.version) == after
    assert (part, late) == (
        await products.reservation(products.part),
        await products.reservation(products.late),
    )
    assert [Part] == [type(each) for each in part.parts]
    assert part.price == msgspec.json.decode(PRICE, type=Price)
