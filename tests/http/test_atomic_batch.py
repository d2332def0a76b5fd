"""A batch that is atomic: all or nothing."""

import asyncio

import httpx
import pytest

from tests.http.steps import (
    ask,
    balance,
    deduct,
    do,
    find,
    grant,
    is_refused,
    members,
    op,
    reserve,
    setting,
    sums,
)


async def together(client: httpx.AsyncClient, *operations: dict, key: str | None = None) -> dict:
    """The answer to an atomic batch that was read."""
    answer = await ask(client, "batch", key=key, operations=list(operations), atomic=True)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def statuses(answer: dict) -> list[int]:
    return [each["status"] for each in answer["results"]]


async def test_all_of_it_is_done(client):
    for account in "abc":
        await grant(client, account)
    answer = await together(client, *[deduct(10, account) for account in "abc"])
    assert {"results"} == answer.keys(), "no failedIndex"
    assert [201, 201, 201] == statuses(answer)
    assert [(90, 0, 2)] * 3 == [await sums(client, account) for account in "abc"]


async def test_or_nothing_the_one_that_failed_says_why_and_the_others_that_one_has(client):
    for account in "abc":
        await grant(client, account)
    answer = await together(
        client, deduct(10, "a"), deduct(101, "b"), deduct(10, "c"), op("grant", accountId="d", amount=5)
    )
    assert 1 == answer["failedIndex"]
    assert [424, 402, 424, 424] == statuses(answer)
    assert ("insufficient_credits", 101, 100) == members(
        answer["results"][1], "code", "required", "available"
    )
    others = [each for each in answer["results"] if each["status"] == 424]
    assert {("batch_failed", False)} == {members(each, "code", "replayed") for each in others}
    assert "failedIndex" in others[0]["detail"]
    assert [(100, 0, 1)] * 3 == [await sums(client, account) for account in "abc"]
    assert 404 == (await client.get("/api/credits/balance?accountId=d")).status_code


async def test_the_first_of_several_that_would_fail_is_named(client):
    await grant(client)
    answer = await together(client, deduct(1), deduct(1, "nobody"), deduct(101), deduct(2, "nobody"))
    assert (1, [424, 404, 424, 424]) == (answer["failedIndex"], statuses(answer))


async def test_what_comes_first_counts_for_what_comes_after_it(client):
    answer = await together(
        client,
        op("grant", accountId="alice", amount=5),
        deduct(4),
        op("reserve", accountId="alice", amount=1),
    )
    assert [201, 201, 201] == statuses(answer)
    failed = await together(
        client, op("cancel", reservationId=answer["results"][2]["reservation"]["id"]), deduct(2)
    )
    assert (1, [424, 402]) == (failed["failedIndex"], statuses(failed))
    assert (0, 1, 3) == await sums(client)


async def test_it_is_repeated_as_a_whole_and_done_once(client):
    await grant(client)
    operations = [deduct(1), deduct(2)]
    first = await together(client, *operations, key="k")
    again = await together(client, *operations, key="k")
    assert [True, True] == [each["replayed"] for each in again["results"]]
    assert [each["transaction"] for each in first["results"]] == [
        each["transaction"] for each in again["results"]
    ]
    assert (97, 0, 3) == await sums(client)


async def test_after_a_failure_the_others_may_come_again_under_their_keys(client):
    await grant(client)
    operations = [deduct(1), deduct(200)]
    failed = await together(client, *operations, key="k")
    assert 1 == failed["failedIndex"]
    assert "kept under the key" in failed["results"][1]["detail"]
    assert "kept under the key" not in failed["results"][0]["detail"]
    await grant(client, amount=1000)
    again = await together(client, *operations, key="k")
    assert (1, [424, 402]) == (again["failedIndex"], statuses(again)), "its refusal is remembered"
    assert [False, True] == [each["replayed"] for each in again["results"]]
    done = await ask(client, "deduct", key="k#0", accountId="alice", amount=1)
    assert (201, None) == (done.status_code, done.headers.get("idempotency-replayed"))


async def test_one_that_was_done_before_is_answered_again_among_new_ones(client):
    await grant(client)
    first = await do(client, "deduct", key="mine", accountId="alice", amount=5)
    answer = await together(client, deduct(5, idempotencyKey="mine"), deduct(7))
    assert [True, False] == [each["replayed"] for each in answer["results"]]
    assert first["transaction"] == answer["results"][0]["transaction"]
    assert 88 == (await sums(client))[0]


async def test_one_outside_the_callers_scope_fails_the_batch(client, client_of):
    await grant(client)
    spender = await client_of("spend")
    answer = await together(
        spender,
        deduct(1),
        op("grant", accountId="alice", amount=5),
        op("adjust", accountId="alice", amount=1, reason="w"),
    )
    assert (1, [424, 403, 424]) == (answer["failedIndex"], statuses(answer))
    assert (100, 0, 1) == await sums(client)


async def test_an_account_of_others_fails_the_batch_of_a_key_of_one_account(client, client_of):
    await grant(client, "alice")
    await grant(client, "bob")
    theirs = (await reserve(client, "bob"))["reservation"]["id"]
    alice = await client_of("spend", account="alice")
    for foreign, status in ((deduct(1, "bob"), 403), (op("cancel", reservationId=theirs), 404)):
        answer = await together(alice, deduct(1), foreign)
        assert (1, [424, status]) == (answer["failedIndex"], statuses(answer))
    assert (100, 0, 1) == await sums(client)


async def test_a_task_or_a_transaction_that_does_not_exist_fails_the_batch(client):
    await grant(client)
    for missing, code in (
        (op("confirm", taskId="nobody's"), "reservation_not_found"),
        (op("refund", transactionId="0-1-999"), "transaction_not_found"),
    ):
        answer = await together(client, deduct(1), missing)
        assert (1, code) == (answer["failedIndex"], answer["results"][1]["code"])
    assert (100, 0, 1) == await sums(client)


async def test_a_frozen_account_fails_the_batch(client):
    await grant(client, "alice")
    await grant(client, "bob")
    await setting(client, "bob", status="frozen")
    answer = await together(client, deduct(1, "alice"), deduct(1, "bob"))
    assert (1, "account_frozen") == (answer["failedIndex"], answer["results"][1]["code"])
    assert 100 == (await balance(client))["available"]


async def test_credits_move_from_one_account_to_another_or_not_at_all(client):
    await grant(client, "alice", amount=50)
    await grant(client, "bob", amount=50)

    async def transfer(number: int) -> int:
        ends = ("alice", "bob") if number % 2 else ("bob", "alice")
        answer = await together(
            client, deduct(7, ends[0]), op("grant", accountId=ends[1], amount=7), key=f"t{number}"
        )
        return len(answer["results"]) if "failedIndex" not in answer else 0

    await asyncio.gather(*(transfer(number) for number in range(40)))
    alice, bob = await sums(client, "alice"), await sums(client, "bob")
    assert 100 == alice[0] + bob[0]
    assert alice[2] == bob[2], "each transfer made an entry on both sides"


async def test_a_thousand_operations_are_done_or_not(client):
    await grant(client, amount=1000)
    failed = await together(client, *[deduct(1) for _ in range(999)], deduct(2))
    assert (999, {424, 402}) == (failed["failedIndex"], set(statuses(failed)))
    assert (1000, 0, 1) == await sums(client)
    done = await together(client, *[deduct(1) for _ in range(1000)])
    assert {201} == set(statuses(done))
    assert (0, 0, 1001) == await sums(client)


async def test_what_settles_is_undone_by_nothing_because_it_was_never_done(client):
    await grant(client)
    held = [(await reserve(client, amount=10))["reservation"]["id"] for _ in range(3)]
    answer = await together(
        client,
        op("confirm", reservationId=held[0]),
        op("cancel", reservationId=held[1]),
        op("extend", reservationId=held[2], ttlSeconds=86_400),
        op("confirm", reservationId=held[0], amount=99),
        op("confirm", reservationId=held[1]),
    )
    assert (4, "reservation_cancelled") == (answer["failedIndex"], answer["results"][4]["code"])
    assert ["pending"] * 3 == [(await find(client, each))["status"] for each in held]
    assert 0 == (await find(client, held[2]))["extensions"]
    assert (70, 30, 4) == await sums(client)


@pytest.mark.parametrize("atomic", ["true", 1, 0, None, []])
async def test_atomic_is_true_or_false(client, atomic):
    await is_refused(client, "batch", 400, "invalid_request", operations=[deduct(1)], atomic=atomic)
