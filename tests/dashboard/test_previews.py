"""What was foreseen is what happens: previews against the ledger, over many ways to get there."""

import random

import pytest

from app.dashboard import previews
from app.http.times import moment
from app.ledger.errors import Refused
from app.ledger.operations import Adjust, Cancel, Confirm, Extend, Grant, Reserve

BUCKETS = (None, "plan", "bonus")


async def prepared(ledger, dice: random.Random, account: str, now: int) -> str:
    """An account with some lots, and a reservation of some of them."""
    for bucket, expires_at_ms in (("plan", 0), ("bonus", now + 3_600_000), ("plan", now + 7_200_000)):
        amount = dice.randint(1, 50)
        await ledger.grant(
            Grant(account=account, amount=amount, bucket=bucket, expires_at_ms=expires_at_ms, by="key:all")
        )
    name = await ledger.new_reservation_id(account)
    held = dice.randint(1, 60)
    held = min(held, (await ledger.balance(account)).account.available)
    await ledger.reserve(
        Reserve(account=account, reservation=name, amount=held, ttl_ms=86_400_000, by="key:all")
    )
    return name


def change(preview: previews.Preview, what: str) -> int:
    (found,) = [each.after for each in preview.changes if each.what == what]
    return found


@pytest.mark.parametrize("seed", range(12))
async def test_a_confirm_and_a_cancel_end_as_was_foreseen(app, clock, client, seed):
    ledger, dice = app.state.parts.ledger, random.Random(seed)
    for number in range(6):
        account = f"a{number}"
        name = await prepared(ledger, dice, account, clock.now_ms)
        if dice.random() < 0.5:  # a lot has lapsed, and gets back what was held of it
            await clock.set(clock.now_ms + 4_000_000)
        found = await ledger.find(name)
        before = (await ledger.balance(account)).account
        now = moment(clock.now_ms)
        over = dice.choice(["reject", "cap", "charge"])
        amount = dice.choice([None, 0, dice.randint(0, 5), 10_000])
        if dice.random() < 0.3:
            seen = previews.cancel(found, before, now)
            operation = Cancel(reservation=name, by="key:all")
            verb = ledger.cancel
        else:
            seen = previews.confirm(found, before, amount, over, now)
            operation = Confirm(reservation=name, amount=amount, over_capture=over, by="key:all")
            verb = ledger.confirm
        try:
            await verb(operation)
        except Refused:
            assert seen.refused, (seed, number)
            continue
        assert seen.refused is None, (seed, number)
        after = (await ledger.balance(account)).account
        assert (change(seen, "Available"), change(seen, "Held")) == (after.available, after.held), (
            seed,
            number,
        )


@pytest.mark.parametrize("seed", range(6))
async def test_an_adjustment_ends_as_was_foreseen(app, clock, client, seed):
    ledger, dice = app.state.parts.ledger, random.Random(seed)
    for number in range(8):
        account = f"b{number}"
        await prepared(ledger, dice, account, clock.now_ms)
        if dice.random() < 0.4:
            await client.patch(
                f"/api/credits/accounts/{account}", json={"overdraftLimit": dice.randint(1, 30)}
            )
        if dice.random() < 0.2:
            await client.patch(f"/api/credits/accounts/{account}", json={"status": "frozen"})
        before = (await ledger.balance(account)).account
        amount, bucket = dice.choice([-200, -90, -10, 5, 200]), dice.choice(BUCKETS)
        short = dice.choice(["reject", "take"])
        seen = previews.adjust(before, amount, bucket, short)
        try:
            await ledger.adjust(
                Adjust(account=account, amount=amount, bucket=bucket, short=short, by="key:all")
            )
        except Refused:
            assert seen.refused, (seed, number)
            continue
        assert seen.refused is None, (seed, number)
        after = (await ledger.balance(account)).account
        assert change(seen, "Available") == after.available, (seed, number)


@pytest.mark.parametrize("minutes", [1, 30, 1440])
async def test_an_extension_ends_as_was_foreseen(app, clock, client, minutes):
    ledger = app.state.parts.ledger
    await ledger.grant(Grant(account="alice", amount=10, by="key:all"))
    name = await ledger.new_reservation_id("alice")
    await ledger.reserve(Reserve(account="alice", reservation=name, amount=1, by="key:all"))
    found, account = await ledger.find(name), (await ledger.balance("alice")).account
    seen = previews.extend(found, account, minutes, moment(clock.now_ms))
    try:
        await ledger.extend(Extend(reservation=name, ttl_ms=minutes * 60_000, by="key:all"))
    except Refused:
        assert seen.refused
        return
    assert seen.refused is None
    assert change(seen, "Deadline") == moment((await ledger.find(name)).expires_at_ms)
