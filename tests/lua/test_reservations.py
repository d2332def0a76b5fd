"""How a reservation is written: an ending keeps what it does not change, letter by letter."""

import msgspec
import pytest

from app.ledger import keys
from app.ledger.entries import Entry
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Extend, Grant, Reserve
from app.ledger.replies import Reservation
from app.ledger.shards import shard_of_task
from tests.lua.direct import ANA, SHARD, SHARDS, Direct
from tests.lua.invariants import check_keys
from tests.lua.scenes import refund


async def a_hold(direct: Direct, **fields: object) -> str:
    await direct.do(Grant(account=ANA, amount=100, open=True))
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=60, **fields))
    return id_


async def stored(direct: Direct, id_: str) -> bytes:
    text = await direct.redis.get(keys.reservation(SHARD, id_))
    assert text is not None
    return text


async def test_an_ending_keeps_what_it_does_not_change(direct):
    fields = {
        "task": 't"1\\',
        "provider": "fal",
        "model": "video",
        "resource": "r",
        "metadata": {"a": '","id":"'},
    }
    id_ = await a_hold(direct, **fields)
    before = await stored(direct, id_)
    await direct.do(Cancel(reservation=id_, reason='no ,"id":" here\n'))
    after = await stored(direct, id_)
    assert before[before.index(b',"id":"') :] == after[after.index(b',"id":"') :]
    read = msgspec.json.decode(after, type=Reservation)
    assert ('no ,"id":" here\n', fields["metadata"], fields["task"]) == (
        read.cancel_reason,
        read.metadata,
        read.task,
    )
    await check_keys(direct.redis)


async def test_a_reservation_in_another_order_of_members_ends_once(direct):
    id_ = await a_hold(direct, model="video")
    members = msgspec.json.decode(await stored(direct, id_))
    turned = {
        name: members[name] for name in ["v", "id", *sorted(members.keys() - {"v", "id"}, reverse=True)]
    }
    await direct.redis.set(keys.reservation(SHARD, id_), msgspec.json.encode(turned))
    first, _, _ = await direct.do(Confirm(reservation=id_, amount=10))
    assert (await stored(direct, id_)).count(b'"status"') == 1
    again, _, _ = await direct.do(Confirm(reservation=id_))
    assert again.replayed
    assert first.sequence == again.sequence
    await check_keys(direct.redis)


async def test_a_reservation_that_was_made_in_the_same_call_can_be_bound_and_ended_in_it(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    id_ = direct.new_id()
    reply = await direct.send(
        Reserve(account=ANA, reservation=id_, amount=60, model="video"),
        Bind(reservation=id_, task="t", provider="fal", resource="r"),
        Confirm(reservation=id_, amount=20, model="image"),
    )
    assert ["confirmed"] == [each.status for each in reply.reservations]
    read = msgspec.json.decode(await stored(direct, id_), type=Reservation)
    assert (20, 40, "t", "r", "image") == (read.captured, read.released, read.task, read.resource, read.model)
    await check_keys(direct.redis)


@pytest.mark.parametrize("hostile", ['"', "\\", "\n", "\x01", "\x7f", "é"], ids=ascii)
async def test_whatever_stands_in_a_text_its_entry_and_its_reservation_can_be_read(direct, hostile):
    """The API lets none of this in; should anything else, its entry must not be one that nobody can read."""
    hostile = f"a{hostile}b"
    id_ = await a_hold(direct, by=hostile, key=hostile, fingerprint="f", task=hostile, provider=hostile)
    await direct.do(Deduct(account=ANA, amount=1, model=hostile, by=hostile))
    asked = {"amount": 1, "final": False, "model": hostile, "key": f"{hostile}2", "fingerprint": "f"}
    spent, _, _ = await direct.do(Confirm(reservation=id_, **asked))
    await direct.do(
        Extend(reservation=id_, ttl_ms=80_000_000, task_shard=shard_of_task(hostile, hostile, SHARDS))
    )
    await direct.do(refund(spent, bucket="b", by=hostile))
    assert spent.entry == (await direct.do(Confirm(reservation=id_, **asked)))[0].entry
    await direct.do(Cancel(reservation=id_, reason=hostile))
    entries = [
        msgspec.json.decode(fields[b"entry"], type=Entry)
        for _, fields in await direct.redis.xrange(keys.journal(SHARD))
    ]
    assert [hostile] * 4 == [entries[1].task, entries[2].model, entries[4].task, entries[5].model]
    assert hostile == msgspec.json.decode(await stored(direct, id_), type=Reservation).cancel_reason
