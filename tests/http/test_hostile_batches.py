"""Whatever batch is sent: what is wrong in one operation is named with its place, and nothing moves."""

import json

import httpx
import pytest

from tests.http.hostile import AMOUNTS, FIELDS, NOT_JSON, SHAPELY, UUID
from tests.http.refused import is_invalid
from tests.http.steps import ask, deduct, grant, is_refused, op, sums

GOOD = deduct(1)


async def send(client: httpx.AsyncClient, *operations: object, **more) -> httpx.Response:
    return await ask(client, "batch", operations=list(operations), **more)


WRONG = [
    ({}, "operation"),
    ({"operation": "batch", "operations": [GOOD]}, "operation"),
    ({"operation": "bind", "taskId": "t"}, "operation"),
    ({"operation": "configure", "status": "frozen"}, "operation"),
    ({"operation": "Deduct", "accountId": "alice", "amount": 1}, "operation"),
    ({"operation": None, "accountId": "alice", "amount": 1}, "operation"),
    ({"operation": 5}, "operation"),
    ({"operation": ["deduct"]}, "operation"),
    ({"operation": "deduct", "accountId": "alice"}, "amount"),
    ({"operation": "deduct", "amount": 1}, "accountId"),
    ({**GOOD, "surprise": 1}, "surprise"),
    ({**GOOD, "reservationId": UUID}, "reservationId"),
    ({**GOOD, "idempotency_key": "k"}, "idempotency_key"),
    ({**GOOD, "idempotencyKey": ""}, "idempotencyKey"),
    ({**GOOD, "idempotencyKey": "k" * 256}, "idempotencyKey"),
    ({**GOOD, "idempotencyKey": "k\n"}, "idempotencyKey"),
    ({**GOOD, "idempotencyKey": "kä"}, "idempotencyKey"),
    ({**GOOD, "idempotencyKey": 5}, "idempotencyKey"),
    ({**GOOD, "idempotencyKey": None}, "idempotencyKey"),
    ({**GOOD, "metadata": {"a": 1}}, "metadata"),
    ({**GOOD, "metadata": {"a": "b" * 1024}}, "metadata"),
    (op("confirm", reservationId=UUID, taskId="t"), "taskId"),
    (op("confirm", reservationId="17"), "reservationId"),
    (op("confirm", reservationId=UUID, amount=0, final=False), "amount"),
    (op("grant", accountId="alice", amount=1, bucket="overdraft"), "bucket"),
    (op("adjust", accountId="alice", amount=0, reason="why"), "amount"),
    (op("refund", transactionId="1-1"), "transactionId"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG)
async def test_the_first_wrong_operation_is_named_with_its_place_and_its_field(client, wrong, field):
    await grant(client)
    answer = await send(client, GOOD, wrong, {"operation": "another one that is wrong"})
    assert is_invalid(answer)
    problem = answer.json()
    assert "operations[1]" in problem["detail"]
    assert field in problem["detail"]
    assert "(?!" not in problem["detail"]
    if "field" in problem:
        assert problem["field"].removesuffix("[...]") in (f"operations[1].{field}", "operations[1]")
    assert (100, 0, 1) == await sums(client)


@pytest.mark.parametrize("wrong", [5, "deduct", None, [], True, 1.5])
async def test_an_operation_is_an_object(client, wrong):
    answer = await send(client, GOOD, wrong)
    assert is_invalid(answer)
    assert "operations[1]" == answer.json()["field"]


async def test_every_field_has_in_a_batch_the_shape_that_it_has_alone(client):
    await grant(client)
    for verb, wrongs in FIELDS.items():
        for wrong in wrongs:
            body = json.dumps({"operations": [op(verb, **(SHAPELY[verb] | wrong))]})
            answer = await client.post("/api/credits/batch", content=body)
            assert is_invalid(answer), wrong
            assert next(iter(wrong)) in answer.json()["detail"], (wrong, answer.text)
    assert (100, 0, 1) == await sums(client)


async def test_amounts_are_json_integers_within_the_bounds_in_a_batch_too(client):
    await grant(client)
    for amount in AMOUNTS:
        one = b'{"operation":"deduct","accountId":"alice","amount":%s}' % amount.encode()
        answer = await client.post("/api/credits/batch", content=b'{"operations":[%s]}' % one)
        assert is_invalid(answer), amount
    assert (100, 0, 1) == await sums(client)


async def test_what_is_not_json_is_refused(client):
    for title, body in NOT_JSON.items():
        assert is_invalid(await client.post("/api/credits/batch", content=body)), title


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"operations": None},
        {"operations": {}},
        {"operations": "deduct"},
        {"operations": []},
        {"operations": [GOOD] * 1001},
        {"operations": [GOOD], "surprise": 1},
        {"operations": [GOOD], "idempotencyKey": "k"},
        {"atomic": True},
    ],
    ids=["nothing", "null", "an object", "a string", "none", "1001", "a field", "a key", "only atomic"],
)
async def test_a_batch_is_a_list_of_1_to_1000_operations(client, body):
    await grant(client)
    assert is_invalid(await ask(client, "batch", **body))
    assert (100, 0, 1) == await sums(client)


async def test_a_batch_of_more_than_a_mebibyte_is_413(client):
    large = [deduct(1, metadata={"a": "b" * 1000}) for _ in range(1000)]
    await is_refused(client, "batch", 413, "body_too_large", operations=large)


async def test_a_key_may_have_any_length_that_it_may_have_alone(client):
    await grant(client)
    answer = await ask(client, "batch", key="k" * 255, operations=[GOOD] * 1000)
    assert {False} == {each["replayed"] for each in answer.json()["results"]}
    again = await ask(client, "batch", key="k" * 255, operations=[GOOD] * 1000)
    assert {True} == {each["replayed"] for each in again.json()["results"]}
