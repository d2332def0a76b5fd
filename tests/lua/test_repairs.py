"""repair: what the journal says of an account is put back, whatever Redis has made of it."""

import msgspec
import pytest

from app.ledger import keys
from app.ledger.operations import Balance, Configure, Confirm, Deduct, Extend, Repair
from app.ledger.replies import Account
from app.ledger.shards import shard_of_task
from tests.lua.direct import ANA, SHARD, SHARDS, Direct
from tests.lua.invariants import check_keys
from tests.lua.scenes import MINUTE_MS, deduct, grant, keyed, original, part, refund, reserve


async def eventful(direct: Direct) -> tuple[Account, str, str]:
    """Ana owes, is frozen, has a reservation in parts that was extended, and a refund: account, both ids."""
    await grant(direct, 100)
    terms = {"over_capture": "charge", "on_expired": "charge", "task": "t", "metadata": {"a": "b"}}
    price = '{"model":"m","version":3,"base":"0","price":"0.5","units":"80"}'
    id_ = await reserve(direct, 40, ttl_ms=MINUTE_MS, price=price, **terms)
    await part(direct, id_, 10, "p")
    await direct.do(
        Extend(reservation=id_, ttl_ms=2 * MINUTE_MS, task_shard=shard_of_task(None, "t", SHARDS))
    )
    spent = await deduct(direct, 50)
    await direct.do(refund(spent, amount=7))
    await direct.do(Configure(account=ANA, overdraft_limit=30, status="frozen", low_balance=5))
    await direct.do(Configure(account=ANA, status="active"))
    await deduct(direct, 30)
    await direct.do(Configure(account=ANA, status="frozen"))
    return await direct.account(), id_, original(spent).transaction


def repaired(account: Account, found: int, **more) -> Repair:
    kept = {
        name: getattr(account, name)
        for name in ("version", "available", "held", "lots", "overdraft_limit", "status", "low_balance")
    }
    return Repair(account=ANA, found=found, open_holds=account.open_holds, **kept, **more)


@pytest.mark.parametrize("spoilt", ["gone", "garbage", "another type"])
async def test_what_is_spoilt_is_put_back_to_the_last_member(direct, spoilt):
    account, id_, transaction = await eventful(direct)
    names = [
        keys.account(SHARD, ANA),
        keys.reservation(SHARD, id_),
        keys.refunded(SHARD, transaction),
    ]
    texts = [await direct.redis.get(name) for name in names]
    _, _, reservation = await direct.do(Confirm(reservation=id_, amount=10, final=False, **keyed("p")))
    await direct.redis.delete(*names)
    for name in names:
        if spoilt == "garbage":
            await direct.redis.set(name, "garbage")
        elif spoilt == "another type":
            await direct.redis.hset(name, "planted", "1")
    await direct.do(repaired(account, -1, reservations=[reservation], refunded=[(transaction, 7)]))
    after = [await direct.redis.get(name) for name in names]
    version = f'"version":{account.version}'.encode()
    assert texts[0].replace(version, f'"version":{account.version + 1}'.encode()) == after[0]
    assert msgspec.json.decode(texts[1]) == msgspec.json.decode(after[1])
    assert texts[2] == after[2]
    await check_keys(direct.redis)
    await direct.do(Configure(account=ANA, status="active"))
    await direct.do(Confirm(reservation=id_))
    await check_keys(direct.redis)


async def test_what_has_moved_meanwhile_is_not_repaired(direct):
    account, _, _ = await eventful(direct)
    refused = await direct.refused(repaired(account, account.version - 1))
    assert ("moved", {"version": account.version}) == (refused.word, refused.facts)
    await check_keys(direct.redis)


async def test_settings_that_were_lost_refuse_until_they_are_put_back(direct):
    """Whoever writes a floor by hand has drift, and no debt that nobody has agreed to."""
    account, _, _ = await eventful(direct)
    name = keys.account(SHARD, ANA)
    await direct.redis.set(name, msgspec.json.encode(msgspec.structs.replace(account, overdraft_limit=0)))
    assert "account_frozen" == (await direct.refused(Deduct(account=ANA, amount=1))).word
    await direct.do(repaired(account, account.version))
    assert 30 == (await direct.do(Balance(account=ANA)))[1].overdraft_limit
    await check_keys(direct.redis)
