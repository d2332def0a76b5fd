"""Whatever body is sent, the answer is a problem that names what is wrong: never a 500, and nothing moves."""

import contextlib
import json

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.http import crediting, settling, spending
from app.http.problems import Problem
from app.http.wire import Strict
from tests.http.hostile import AMOUNTS, FIELDS, NEITHER, NOT_JSON, SHAPELY, UUID
from tests.http.refused import is_invalid
from tests.http.steps import grant, reserve

BODIES = [
    crediting.GrantBody, spending.DeductBody, spending.ReserveBody, settling.ConfirmBody,
    settling.CancelBody, settling.ExtendBody, crediting.RefundBody, crediting.AdjustBody,
]  # fmt: skip


DECODERS = {body.verb: Strict[body](None).decode_bytes for body in BODIES}


async def untouched(client: httpx.AsyncClient) -> bool:
    balance = (await client.get("/api/credits/balance?accountId=alice")).json()
    return (balance["available"], balance["version"]) == (100, 1)


async def test_what_is_not_json_is_refused(client):
    await grant(client)
    for verb in SHAPELY:
        for title, body in NOT_JSON.items():
            assert is_invalid(await client.post(f"/api/credits/{verb}", content=body)), (verb, title)
    assert await untouched(client)


NUMBERS = {
    ("grant", "amount"): set(), ("deduct", "amount"): set(), ("reserve", "amount"): set(),
    ("confirm", "amount"): {"0", "-0"}, ("refund", "amount"): set(), ("adjust", "amount"): {"-1"},
    ("grant", "rollover"): {"0", "-0"}, ("grant", "priority"): {"0", "-0"},
    ("reserve", "ttlSeconds"): set(), ("extend", "ttlSeconds"): set(),
    ("deduct", "units"): {"0", "-0", '"5"'}, ("reserve", "units"): {"0", "-0", '"5"'},
    ("confirm", "units"): {"0", "-0", '"5"'},
}  # fmt: skip
"""Every number that a verb takes, and which of `AMOUNTS` it may be."""


async def test_numbers_are_json_integers_within_their_bounds(client):
    await grant(client)
    for (verb, name), allowed in NUMBERS.items():
        rest = {each: value for each, value in SHAPELY[verb].items() if each not in ("amount", name)}
        if name in ("rollover", "priority", "ttlSeconds") and verb != "extend":
            rest["amount"] = 1
        if name == "units" and verb != "confirm":
            rest["modelId"] = "m"
        for amount in AMOUNTS:
            if amount in allowed:
                continue
            body = json.dumps(rest)[:-1].encode() + b',"%s":%s}' % (name.encode(), amount.encode())
            assert is_invalid(await client.post(f"/api/credits/{verb}", content=body)), (verb, name, amount)
    assert await untouched(client)


UNITS = ["", "-1", "+1", " 1", "1 ", "01", "1.", ".5", "1.0000001", "1e3", "1,5", "٣", "NaN", "1" * 17, "1\n"]


async def test_units_are_decimal_strings_of_at_most_six_places(client):
    await grant(client)
    for units in UNITS:
        for verb in ("deduct", "reserve"):
            body = {"accountId": "alice", "modelId": "m", "units": units}
            assert is_invalid(answer := await client.post(f"/api/credits/{verb}", json=body)), units
            assert "units" == answer.json()["field"]
        answer = await client.post("/api/credits/confirm", json={"reservationId": UUID, "units": units})
        assert is_invalid(answer), units
    known = {"accountId": "alice", "modelId": "m", "units": "1.000001"}
    assert "model_not_found" == (await client.post("/api/credits/deduct", json=known)).json()["code"]
    assert await untouched(client)


async def test_an_amount_or_units_of_a_model_and_never_both(client):
    await grant(client)
    for verb in ("deduct", "reserve"):
        for body in (
            {},
            {"modelId": "m"},
            {"units": 1},
            {"amount": 1, "units": 1},
            {"amount": 1, "units": 1, "modelId": "m"},
        ):
            answer = await client.post(f"/api/credits/{verb}", json={"accountId": "alice", **body})
            assert is_invalid(answer), (verb, body)
    both = {"reservationId": UUID, "amount": 1, "units": 1}
    assert is_invalid(await client.post("/api/credits/confirm", json=both))
    assert await untouched(client)


async def test_fields_have_their_shape_and_unknown_ones_are_refused(client):
    await grant(client)
    for verb, wrong in [(each, wrong) for each, wrongs in FIELDS.items() for wrong in wrongs]:
        answer = await client.post(f"/api/credits/{verb}", content=json.dumps(SHAPELY[verb] | wrong))
        assert is_invalid(answer), wrong
        assert next(iter(wrong)) in answer.json()["detail"], (wrong, answer.text)
        assert "(?!" not in answer.json()["detail"], "a pattern is no explanation"
    assert await untouched(client)


async def test_a_reservation_is_named_by_its_id_or_by_its_task_and_by_nothing_else(client):
    for verb, more in (("confirm", {}), ("cancel", {}), ("extend", {"ttlSeconds": 60})):
        for body in NEITHER:
            answer = await client.post(f"/api/credits/{verb}", json=more | body)
            assert is_invalid(answer), (verb, body)


async def test_the_longest_of_everything_is_taken(client):
    account = "A.z_0:@+-" + "a" * 119
    printable = "".join(map(chr, range(0x20, 0x7F))) + "~" * 160
    await grant(
        client,
        account,
        bucket="a/b" + "c" * 61,
        reason="ä" * 500,
        metadata={str(number): "v" for number in range(15)} | {"long": "x" * 984},
    )
    body = await reserve(
        client,
        account,
        taskId=printable,
        resourceId=printable,
        provider="p" * 64,
        modelId="m/" * 32,
        ttlSeconds=86_400,
    )
    found = await client.get("/api/images/by-task-id", params={"taskId": printable, "provider": "p" * 64})
    assert (printable, body["reservation"]["id"]) == (found.json()["id"], found.json()["reservationId"])


async def test_of_a_name_that_comes_twice_the_last_one_counts(client):
    answer = await client.post("/api/credits/grant", content=b'{"accountId":"a","amount":1,"amount":2}')
    assert 2 == answer.json()["balance"]["available"]


async def test_the_content_type_is_not_looked_at(client):
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "nonsense",
        "",
    ):
        answer = await client.post(
            "/api/credits/grant",
            content=b'{"accountId":"a","amount":1}',
            headers={"content-type": content_type},
        )
        assert 201 == answer.status_code, content_type


async def test_a_body_of_more_than_a_mebibyte_is_refused_whether_it_is_announced_or_not(client):
    async def pieces():
        for _ in range(17):
            yield b" " * 65_536

    for body in (b" " * (1_048_576 + 1), pieces()):
        answer = await client.post("/api/credits/deduct", content=body)
        assert (413, "body_too_large", 1_048_576) == (
            answer.status_code,
            answer.json()["code"],
            answer.json()["limit"],
        )


async def test_a_body_of_a_mebibyte_is_read(client):
    body = b'{"accountId":"a","amount":1' + b" " * (1_048_576 - 28) + b"}"
    assert 201 == (await client.post("/api/credits/grant", content=body)).status_code


async def test_a_wrong_field_is_explained_in_words(client):
    answer = await client.post("/api/credits/grant", json={"accountId": "a b", "amount": 1})
    expected = "`accountId`: Expected `str` of 1 to 128 of ASCII letters, digits and . _ : @ + -."
    assert (expected, "accountId") == (answer.json()["detail"], answer.json()["field"])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    verb=st.sampled_from(sorted(SHAPELY)),
    name=st.sampled_from(
        ["amount", "accountId", "reason", "units", "rollover", "final", "overCapture", "ttlSeconds", "short"]
    ),
    value=ANYTHING,
)
def test_no_value_of_any_field_is_a_bug(verb, name, value):
    sent = json.dumps(SHAPELY[verb] | {name: value}).encode()
    with contextlib.suppress(Problem):
        assert DECODERS[verb](sent).fingerprint()
