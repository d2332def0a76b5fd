"""Who may do what in a batch: each operation is judged for itself."""

import pytest

from tests.http.steps import batch, deduct, do, find, grant, members, op, reserve, sums


async def test_one_outside_the_callers_scope_is_403_and_the_others_go_on(client, client_of):
    await grant(client)
    spender = await client_of("spend")
    results = await batch(
        spender,
        deduct(1),
        op("grant", accountId="alice", amount=5),
        op("adjust", accountId="alice", amount=5, reason="why not"),
        deduct(2),
    )
    assert [201, 403, 403, 201] == [each["status"] for each in results]
    assert ["grant", "operate"] == [each["detail"].split()[-1].rstrip(".") for each in results[1:3]]
    assert 97 == (await sums(client))[0]


@pytest.mark.parametrize("scope", ["grant", "operate"])
async def test_whoever_may_write_something_may_send_a_batch_of_it(client, client_of, scope):
    await grant(client)
    theirs = {
        "grant": op("grant", accountId="alice", amount=5),
        "operate": op("adjust", accountId="alice", amount=5, reason="why not"),
    }[scope]
    assert [201, 403] == [each["status"] for each in await batch(await client_of(scope), theirs, deduct(1))]


async def test_a_key_of_one_account_is_refused_for_those_of_others_only(client, client_of):
    await grant(client, "alice")
    await grant(client, "bob")
    theirs = (await reserve(client, "bob", taskId="t"))["reservation"]["id"]
    spent = (await do(client, "deduct", accountId="bob", amount=5))["transaction"]["id"]
    alice = await client_of("spend", "grant", account="alice")
    mine = (await reserve(alice))["reservation"]["id"]
    results = await batch(
        alice,
        deduct(1),
        deduct(1, "bob"),
        op("confirm", reservationId=mine, accountId="bob"),
        op("confirm", reservationId=theirs),
        op("cancel", taskId="t"),
        op("refund", transactionId=spent),
        op("refund", reservationId=theirs),
        op("confirm", reservationId=mine),
    )
    assert [
        (201, None), (403, "forbidden"), (403, "forbidden"), (404, "reservation_not_found"),
        (404, "reservation_not_found"), (404, "transaction_not_found"), (404, "reservation_not_found"),
        (200, None),
    ] == [members(each, "status", "code") for each in results]  # fmt: skip
    assert "pending" == (await find(client, theirs))["status"]


async def test_a_key_of_one_account_does_not_get_the_answer_of_anothers_key(client, client_of):
    await grant(client, "bob")
    theirs = (await reserve(client, "bob"))["reservation"]["id"]
    await do(client, "confirm", key="k", reservationId=theirs)
    await grant(client, "alice")
    alice = await client_of("spend", account="alice")
    (result,) = await batch(alice, op("confirm", reservationId=theirs, idempotencyKey="k"))
    assert (404, "reservation_not_found") == members(result, "status", "code")


async def test_a_task_conflict_does_not_tell_a_key_of_one_account_whose_task_it_is(client, client_of):
    await grant(client, "bob")
    theirs = (await reserve(client, "bob", taskId="t"))["reservation"]["id"]
    await grant(client)
    taken = op("reserve", accountId="alice", amount=1, taskId="t")
    (told,) = await batch(client, taken)
    (not_told,) = await batch(await client_of("spend", account="alice"), taken)
    assert ("task_conflict", theirs) == members(told, "code", "reservation")
    assert ("task_conflict", None) == members(not_told, "code", "reservation")
