"""Many at once, from several processes with a lane each, on a real Valkey: whatever the order, one wins.

What the journal says afterwards is proved entry by entry: floors, lots, endings, and that nothing was taken
or given twice.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack

import asyncpg
import msgspec
import pytest

from app.ledger.errors import Refused
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Configure, Confirm, Deduct, Extend, Grant, Refund, Reserve
from app.ledger.receipts import Configured, Receipt
from persistence.birth import give_birth
from tests.integration.ledgers import SHARDS, journal_all, process
from tests.integration.proved import Proved, proved
from tests.processes import HOUSE

ANA = "ana"
PROCESSES = 3

Prove = Callable[[], Awaitable[Proved]]


@pytest.fixture
async def born(database_url: str, redis_url: str) -> None:
    await give_birth(database_url, redis_url, SHARDS)


@pytest.fixture
async def ledgers(database: asyncpg.Pool, redis_url: str, born: None) -> AsyncIterator[list[Ledger]]:
    """What several processes of the API have."""
    async with AsyncExitStack() as open_:
        made = [process(database, redis_url, seconds=20.0) for _ in range(PROCESSES)]
        yield [await open_.enter_async_context(each) for each in made]


@pytest.fixture
def prove(database: asyncpg.Pool, database_url: str, redis_url: str) -> Prove:
    """Journals everything, and demands of the entries what they promise."""

    async def made() -> Proved:
        await journal_all(database_url, redis_url)
        return await proved(database)

    return made


async def words(asked: Iterable[Awaitable[Receipt | Configured]]) -> Counter[str]:
    """What so many askings at the same moment are answered: `ok`, `again` for a replay, or why not."""

    async def word(one: Awaitable[Receipt | Configured]) -> str:
        try:
            answer = await one
        except Refused as error:
            return error.word
        return "again" if isinstance(answer, Receipt) and answer.replayed else "ok"

    return Counter(await asyncio.gather(*map(word, asked)))


async def reserved(ledger: Ledger, amount: int, ttl_ms: int = 60_000, **more: object) -> str:
    id_ = await ledger.new_reservation_id(ANA)
    await ledger.reserve(Reserve(account=ANA, reservation=id_, amount=amount, ttl_ms=ttl_ms, **more))
    return id_


def part(reservation: str, amount: int, key: str, **more: object) -> Confirm:
    return Confirm(reservation=reservation, amount=amount, final=False, key=key, fingerprint="f" * 16, **more)


@pytest.mark.parametrize("over_capture", ["reject", "cap"])
async def test_parts_against_parts_never_exceed_the_hold(ledgers, prove, over_capture):
    await ledgers[0].grant(Grant(account=ANA, amount=1_000))
    id_ = await reserved(ledgers[0], 100, over_capture=over_capture)
    told = await words(ledgers[n % PROCESSES].confirm(part(id_, 7, f"part-{n}")) for n in range(60))
    found = await prove()
    captures = found.of("confirmed")
    assert sum(each.amount for each in captures) == found.reservations[id_].captured
    assert told["ok"] == len(captures)
    if over_capture == "cap":
        assert (found.reservations[id_].captured, len(captures)) == (100, 15)
    else:
        assert (found.reservations[id_].captured, told["exceeds_reservation"]) == (98, 46)


async def test_the_same_part_from_everywhere_is_captured_once(ledgers, prove):
    await ledgers[0].grant(Grant(account=ANA, amount=1_000))
    id_ = await reserved(ledgers[0], 100)
    told = await words(ledgers[n % PROCESSES].confirm(part(id_, 7, "part")) for n in range(30))
    assert told == {"ok": 1, "again": 29}
    assert (await prove()).reservations[id_].captured == 7


async def test_parts_against_a_confirm_that_charges_take_each_credit_once(ledgers, prove):
    await ledgers[0].grant(Grant(account=ANA, amount=150))
    id_ = await reserved(ledgers[0], 100, over_capture="charge")
    asked = [ledgers[n % PROCESSES].confirm(part(id_, 9, f"part-{n}")) for n in range(5)]
    asked += [ledgers[n % PROCESSES].confirm(Confirm(reservation=id_, amount=120)) for n in range(PROCESSES)]
    random.shuffle(asked)
    told = await words(asked)
    found = await prove()
    settled = found.reservations[id_]
    assert (settled.held, settled.captured) == (0, 100)
    assert sum(not each.released for each in found.of("confirmed")) == told["ok"]
    assert found.accounts[ANA].available == 150 - settled.captured - settled.charged >= 0


@pytest.mark.parametrize("by_reservation", [False, True])
async def test_refund_against_refund_never_exceeds_what_was_spent(ledgers, prove, by_reservation):
    await ledgers[0].grant(Grant(account=ANA, amount=1_000))
    id_ = await reserved(ledgers[0], 100)
    await ledgers[1].confirm(part(id_, 60, "first"))
    last = await ledgers[2].confirm(Confirm(reservation=id_))
    spent = 100 if by_reservation else 40

    async def refund(ledger: Ledger, amount: int) -> Receipt:
        of = {"reservation": id_} if by_reservation else {"transaction": last.transaction}
        operation: Refund = await ledger.refunding(**of)
        operation.amount = amount
        return await ledger.refund(operation)

    told = await words(refund(ledgers[n % PROCESSES], 1 + n % 9) for n in range(90))
    told += await words([refund(ledgers[0], 1) for _ in range(9)])  # what the last one was too large for
    found = await prove()
    assert sum(each.amount for each in found.of("refunded")) == spent
    assert told["ok"] + told["exceeds_transaction"] == 99
    assert found.accounts[ANA].available == 1_000 - 100 + spent


async def test_a_change_of_settings_never_reverts_a_debit(ledgers, prove):
    """A hundred debits while limits go up and down: each is in the balance, and none is below the floor."""
    await ledgers[0].grant(Grant(account=ANA, amount=300))
    limits = [random.randrange(200) for _ in range(60)]

    async def configure(ledger: Ledger, limit: int) -> Configured:
        return await ledger.configure(Configure(account=ANA, overdraft_limit=limit, low_balance=limit))

    asked = [ledgers[n % PROCESSES].deduct(Deduct(account=ANA, amount=n % 7 + 1)) for n in range(200)]
    asked += [configure(ledgers[n % PROCESSES], limit) for n, limit in enumerate(limits)]
    random.shuffle(asked)
    told = await words(asked)
    found = await prove()
    debits = found.of("deducted")
    assert told["ok"] >= len(debits)
    assert found.accounts[ANA].available == 300 - sum(each.amount for each in debits)
    shown = (await ledgers[0].balance(ANA)).account
    assert (shown.available, shown.overdraft_limit) == (
        found.accounts[ANA].available, found.accounts[ANA].overdraft_limit,
    )  # fmt: skip
    changes = [each.low_balance for each in found.of("configured") if each.low_balance is not None]
    assert shown.low_balance == changes[-1]


async def test_a_limit_goes_down_while_debits_run_and_nothing_is_below_it(ledgers, prove):
    await ledgers[0].configure(Configure(account=ANA, overdraft_limit=500))

    async def lower(ledger: Ledger) -> Counter[str]:
        steps = range(490, -1, -10)
        return sum(
            [await words([ledger.configure(Configure(account=ANA, overdraft_limit=n))]) for n in steps],
            Counter[str](),
        )

    async def spend(ledger: Ledger) -> Counter[str]:
        return await words(ledger.deduct(Deduct(account=ANA, amount=3)) for _ in range(80))

    lowered, *spent = await asyncio.gather(lower(ledgers[0]), *(spend(each) for each in ledgers[1:]))
    found = await prove()
    debt = -found.accounts[ANA].available
    assert debt == 3 * sum(told["ok"] for told in spent) <= found.accounts[ANA].overdraft_limit
    assert lowered["ok"] + lowered["overdraft_in_use"] == 50


@pytest.mark.parametrize("ttl_ms", [20, 35])
async def test_a_deadline_is_moved_or_has_passed(ledgers, prove, ttl_ms):
    """Extends at the very moment of the deadline: one that was answered has its hold, the others are told."""
    await ledgers[0].grant(Grant(account=ANA, amount=100))
    outcomes: Counter[str] = Counter()
    for _ in range(15):
        id_ = await reserved(ledgers[0], 5, ttl_ms)
        await asyncio.sleep(ttl_ms / 1000 - 0.004)
        told = await words(each.extend(Extend(reservation=id_, ttl_ms=60_000)) for each in ledgers * 2)
        status = (await ledgers[1].find(id_)).status
        assert status == ("pending" if told["ok"] else "cancelled")
        assert told["reservation_expired"] + told["ok"] == 6
        assert not (told["ok"] and told["reservation_expired"])
        outcomes[status] += 1
        await words([ledgers[2].cancel(Cancel(reservation=id_))])
    found = await prove()
    assert len(found.of("expired")) == outcomes["cancelled"]
    assert found.accounts[ANA][:2] == (100, 0)


async def test_cancels_against_late_confirms_charge_once(ledgers, prove):
    await ledgers[0].grant(Grant(account=ANA, amount=100))
    ids = [await reserved(ledgers[0], 6, 20, on_expired="charge") for _ in range(12)]
    await asyncio.sleep(0.03)
    for id_ in ids:
        asked = [each.confirm(Confirm(reservation=id_)) for each in ledgers * 2]
        asked += [each.cancel(Cancel(reservation=id_)) for each in ledgers * 2]
        random.shuffle(asked)
        told = await words(asked)
        assert (told["ok"], told["again"]) == (1, 5)
        assert told["reservation_expired"] + told["reservation_confirmed"] == 6
    found = await prove()
    late = [each for each in found.of("confirmed") if each.late]
    assert [each.amount for each in late] == [6] * 12
    assert found.accounts[ANA][:2] == (100 - 72, 0)


async def test_a_cancel_or_a_confirm_ends_what_is_held_once(ledgers, prove):
    await ledgers[0].grant(Grant(account=ANA, amount=100))
    for ttl_ms in [60_000] * 10 + [15] * 10:
        id_ = await reserved(ledgers[0], 5, ttl_ms, on_expired="charge")
        await asyncio.sleep(0.013 if ttl_ms == 15 else 0)
        asked = [each.confirm(Confirm(reservation=id_)) for each in ledgers]
        asked += [each.cancel(Cancel(reservation=id_)) for each in ledgers]
        random.shuffle(asked)
        told = await words(asked)
        assert told["ok"] == 1, told
    found = await prove()
    spent = sum(each.amount for each in found.of("confirmed"))
    assert found.accounts[ANA][:2] == (100 - spent, 0)


async def test_processes_of_their_own_spend_capture_and_refund_each_credit_once(
    ledgers, prove, database_url, redis_url
):
    await ledgers[0].grant(Grant(account=ANA, amount=400))
    original = await ledgers[0].deduct(Deduct(account=ANA, amount=100))
    id_ = await reserved(ledgers[0], 100, over_capture="cap")
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.spender", database_url, redis_url, id_,
            str(original.transaction), name, cwd=HOUSE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for name in "abc"
    ]  # fmt: skip
    try:
        for each in started:
            assert await each.stdout.readline() == b"ready\n"
        answers = await asyncio.gather(*(each.communicate(b"go\n") for each in started))
    finally:
        for each in started:
            if each.returncode is None:
                each.kill()
                await each.wait()
    done = sum((Counter(msgspec.json.decode(out)) for out, _ in answers), Counter[str]())
    found = await prove()
    assert (done["captured"], done["refunded"]) == (100, 100)
    assert found.accounts[ANA].available == 400 - 100 - 100 + 100 - done["spent"] >= 0
    assert sum(each.amount for each in found.of("refunded")) == 100
