"""Many operations in one request: each is answered as if it had come alone."""

from msgspec.structs import replace

from tests.http.steps import (
    CREDITS,
    ask,
    batch,
    deduct,
    do,
    find,
    grant,
    is_refused,
    members,
    op,
    reserve,
    sums,
)


async def test_every_verb_is_answered_as_if_it_had_come_alone(client):
    await grant(client, amount=1000)
    ids = [(await reserve(client))["reservation"]["id"] for _ in range(3)]
    spent = (await do(client, "deduct", accountId="alice", amount=5))["transaction"]["id"]
    results = await batch(
        client,
        op("grant", accountId="alice", amount=7, reason="a gift"),
        deduct(3, modelId="flux"),
        op("reserve", accountId="alice", amount=9, taskId="t", metadata={"a": "b"}),
        op("confirm", reservationId=ids[0], amount=30),
        op("cancel", reservationId=ids[1], cause="failed"),
        op("extend", reservationId=ids[2], ttlSeconds=7200),
        op("refund", transactionId=spent),
        op("adjust", accountId="alice", amount=-2, reason="counted again"),
    )
    assert [201, 201, 201, 200, 200, 200, 201, 201] == [each["status"] for each in results]
    assert not any(each["replayed"] for each in results)
    assert [
        ("granted", 7), ("deducted", 3), ("reserved", 9), ("confirmed", 30), ("cancelled", 40),
        ("extended", 0), ("refunded", 5), ("adjusted", -2),
    ] == [members(each["transaction"], "kind", "amount") for each in results]  # fmt: skip
    common = {"status", "replayed", "transaction", "balance"}
    for each, more in zip(
        results, [set(), set()] + 4 * [{"reservation"}] + [set(), {"shortfall"}], strict=True
    ):
        assert common | more == each.keys()
    assert "a gift" == results[0]["transaction"]["reason"]
    assert ("t", {"a": "b"}) == members(results[2]["reservation"], "taskId", "metadata")
    versions = [each["transaction"]["version"] for each in results]
    assert list(range(versions[0], versions[0] + 8)) == versions, "in their order"


async def test_one_that_is_refused_says_why_and_the_others_go_on(client):
    await grant(client, amount=10)
    results = await batch(client, deduct(8), deduct(8), deduct(1, "nobody"), deduct(2))
    assert [201, 402, 404, 201] == [each["status"] for each in results]
    assert ("insufficient_credits", 8, 2, False) == members(
        results[1], "code", "required", "available", "replayed"
    )
    assert {"type", "title", "detail"} <= results[1].keys()
    assert "account_not_found" == results[2]["code"]
    assert "key" not in results[1]["detail"]
    assert (0, 0, 3) == await sums(client)


async def test_they_are_done_in_their_order(client):
    await grant(client, amount=5)
    statuses = [
        each["status"]
        for each in await batch(
            client, deduct(6), op("grant", accountId="alice", amount=1), deduct(6), deduct(1)
        )
    ]
    assert [402, 201, 201, 402] == statuses


async def test_a_grant_in_a_batch_opens_the_account_for_what_comes_after_it(client):
    results = await batch(client, deduct(1, "new"), op("grant", accountId="new", amount=5), deduct(4, "new"))
    assert [404, 201, 201] == [each["status"] for each in results]
    assert (1, 0, 2) == await sums(client, "new")


async def test_a_repeated_confirm_of_another_amount_is_a_conflict_in_its_result(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    named = {"reservationId": held}
    first, same, other, none = await batch(
        client,
        op("confirm", **named, amount=30),
        op("confirm", **named, amount=30),
        op("confirm", **named, amount=31),
        op("confirm", **named),
    )
    assert [(False, None), (True, None), (True, "amount"), (True, None)] == [
        members(each, "replayed", "conflict") for each in (first, same, other, none)
    ]
    assert first["transaction"] == other["transaction"]


async def test_a_part_needs_a_key_and_the_whole_batch_is_told_so_before_anything_moves(client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    part = op("confirm", reservationId=held, amount=5, final=False)
    problem = await is_refused(client, "batch", 422, "idempotency_key_required", operations=[deduct(1), part])
    assert "operations[1].idempotencyKey" == problem["field"]
    assert (60, 40, 2) == await sums(client)
    assert [201, 200] == [each["status"] for each in await batch(client, deduct(1), part, key="k")]
    assert 200 == (await batch(client, {**part, "idempotencyKey": "own"}))[0]["status"]
    assert 30 == (await find(client, held))["held"]


async def test_tasks_are_found_in_a_batch(client):
    await grant(client)
    first = (await reserve(client, taskId="t", provider="fal"))["reservation"]["id"]
    second = (await reserve(client, taskId="t"))["reservation"]["id"]
    results = await batch(
        client,
        op("confirm", taskId="t", provider="fal"),
        op("cancel", taskId="t"),
        op("cancel", taskId="nobody's"),
    )
    assert [first, second] == [each["reservation"]["id"] for each in results[:2]]
    assert (404, "reservation_not_found") == members(results[2], "status", "code")


async def test_what_an_operation_names_is_looked_up_before_the_first_of_them_is_done(client):
    await grant(client)
    results = await batch(
        client, op("reserve", accountId="alice", amount=1, taskId="t"), op("confirm", taskId="t")
    )
    assert [201, 404] == [each["status"] for each in results]
    (again,) = await batch(client, op("confirm", taskId="t"))
    assert 200 == again["status"]


async def test_a_thousand_operations_are_taken_and_answered_in_their_order(client):
    for account in range(10):
        await grant(client, f"a{account}")
    operations = [
        deduct(number % 7 + 1, f"a{number % 10}", metadata={"n": str(number)}) for number in range(1000)
    ]
    results = await batch(client, *operations)
    done = [each for each in results if each["status"] == 201]
    assert 1000 == len(results)
    for number, each in enumerate(results):
        if each["status"] == 201:
            assert str(number) == each["transaction"]["metadata"]["n"]
        else:
            assert ("insufficient_credits", number % 7 + 1) == members(each, "code", "required")
    left = [(await sums(client, f"a{account}"))[0] for account in range(10)]
    assert 1000 == sum(left) + sum(each["transaction"]["amount"] for each in done)


async def test_many_reserves_in_a_batch_have_ids_of_their_own(client):
    await grant(client)
    results = await batch(client, *[op("reserve", accountId="alice", amount=1) for _ in range(50)])
    assert 50 == len({each["reservation"]["id"] for each in results})
    assert (50, 50, 51) == await sums(client)


async def test_all_of_a_batch_may_wait_for_the_journal(client, journal):
    await grant(client)
    answer = await client.post(
        f"{CREDITS}/batch",
        json={"operations": [deduct(1), deduct(1000), op("grant", accountId="bob", amount=5)]},
        headers={"lastro-ack": "journaled"},
    )
    assert (200, "true") == (answer.status_code, answer.headers["lastro-journaled"])
    for each in (answer.json()["results"][0], answer.json()["results"][2]):
        found = await client.get(f"{CREDITS}/transactions/{each['transaction']['id']}")
        assert 200 == found.status_code


async def test_a_batch_of_refusals_alone_waits_for_nothing(client):
    await grant(client)
    answer = await client.post(
        f"{CREDITS}/batch", json={"operations": [deduct(1000)]}, headers={"lastro-ack": "journaled"}
    )
    assert 200 == answer.status_code
    assert "lastro-journaled" not in answer.headers


async def test_what_cannot_be_done_now_is_503_for_itself_while_something_else_can(app, client):
    await grant(client)
    held = (await reserve(client))["reservation"]["id"]
    app.state.parts.ledger.heed_memory(is_short=True)
    refused, done = await batch(client, deduct(1), op("confirm", reservationId=held))
    assert (503, "overloaded", "memory", 200) == (
        *members(refused, "status", "code", "cause"),
        done["status"],
    )


async def test_when_nothing_can_be_done_now_the_whole_is_503(app, client):
    await grant(client)
    for atomic in (False, True):
        app.state.parts.ledger.heed_memory(is_short=True)
        answer = await ask(client, "batch", operations=[deduct(1), deduct(1)], atomic=atomic)
        assert (503, "overloaded") == (answer.status_code, answer.json()["code"])
        assert int(answer.headers["retry-after"]) >= 1
    app.state.parts.ledger.heed_memory(is_short=False)
    assert (100, 0, 1) == await sums(client)


async def test_an_atomic_batch_of_several_servers_is_refused_as_a_whole(app, client):
    ledger = app.state.parts.ledger
    await grant(client, "alice")
    await grant(client, "bob")
    cluster = replace(ledger.terms, servers=[ledger.terms.server] * ledger.terms.shards)
    ledger.adopt(cluster)
    two = [deduct(1, "alice"), deduct(1, "bob")]
    problem = await is_refused(
        client, "batch", 422, "batch_across_shards", operations=two, atomic=True, key="k"
    )
    assert "kept under the key" not in problem["detail"]
    assert (100, 0, 1) == await sums(client)
