"""Whatever body is sent, the answer is a problem that names what is wrong: never a 500, and nothing moves."""

import contextlib
import json

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.http import crediting, settling, spending
from app.http.problems import Problem
from app.http.wire import Strict
from tests.http.refused import is_invalid
from tests.http.test_credits import grant, reserve

DEEP = 200_000
UUID = "01a1ffa5-4956-7003-abd8-99c175348713"

NOT_JSON = {
    "nothing": b"",
    "white space": b" \n",
    "a word": b"hello",
    "half an object": b'{"accountId":"alice"',
    "two objects": b"{}{}",
    "a trailing comma": b'{"accountId":"alice","amount":1,}',
    "a comment": b'{"accountId":"alice","amount":1}//',
    "single quotes": b"{'accountId':'alice','amount':1}",
    "a zero byte": b"\x00",
    "a byte order mark": b'\xef\xbb\xbf{"accountId":"alice","amount":1}',
    "UTF-16": '{"accountId":"alice","amount":1}'.encode("utf-16"),
    "bytes that are not UTF-8": b'{"accountId":"al\xffice","amount":1}',
    "a name that is not UTF-8": b'{"accountId":"alice","amount":1,"\xff":1}',
    "half a surrogate pair": b'{"accountId":"alice","amount":1,"reason":"\\ud800"}',
    "a surrogate in UTF-8": b'{"accountId":"alice","amount":1,"reason":"\xed\xa0\x80"}',
    "an overlong slash": b'{"accountId":"al\xc0\xafice","amount":1}',
    "a raw line break in a string": b'{"accountId":"alice","amount":1,"reason":"a\nb"}',
    "a list": b"[]",
    "a string": b'"alice"',
    "null": b"null",
    "a deep list": b"[" * DEEP,
    "a deep object": b'{"a":' * DEEP,
    "a deep metadata": b'{"accountId":"alice","amount":1,"metadata":' + b'{"a":' * DEEP,
    "a form": b"accountId=alice&amount=1",
}

AMOUNTS = [
    "0", "-1", "-0", "1.0", "1.5", "1e3", "1E400", "01", "+1", "0x10", '"5"', "true", "null", "NaN",
    "Infinity", "[1]", "{}", "9007199254740992", "9223372036854775808", "18446744073709551616", "9" * 5000,
]  # fmt: skip

FIELDS = {
    "grant": [
        {"accountId": ""}, {"accountId": "a" * 129}, {"accountId": "a b"}, {"accountId": "alice\n"},
        {"accountId": "ä"}, {"accountId": "a/b"}, {"accountId": 5}, {"accountId": None},
        {"accountId": ["a"]}, {"accountid": "alice"}, {"bucket": ""}, {"bucket": "b" * 65},
        {"bucket": "plan\n"}, {"bucket": None}, {"bucket": "overdraft"}, {"priority": -1},
        {"priority": "1"}, {"priority": None}, {"priority": 10**9}, {"priority": 1.0},
        {"expiresAt": "tomorrow"}, {"expiresAt": "2100-01-01"}, {"expiresAt": "2100-01-01T00:00:00"},
        {"expiresAt": 4102444800}, {"expiresAt": "2100-02-30T00:00:00Z"}, {"expiresAt": None},
        {"expiresAt": ""}, {"expiresAt": "9999-12-31T23:59:59-23:59"},
        {"expiresAt": "0001-01-01T00:00:00+23:59"}, {"expiresAt": "2100-01-01T00:00:00+24:00"},
        {"expiresAt": "+10000-01-01T00:00:00Z"}, {"reason": "r" * 501}, {"reason": "a\u0000b"},
        {"reason": "tab\t"}, {"reason": "line\n"}, {"reason": None}, {"metadata": []}, {"metadata": None},
        {"metadata": "a"}, {"metadata": {"a": 1}}, {"metadata": {"a": None}},
        {"metadata": {"a": {"b": "c"}}}, {"metadata": {"": "a"}}, {"metadata": {"a\u0001": "b"}},
        {"metadata": {"a": "b\u001f"}}, {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"a": "b" * 1024}}, {"metadata": {"a": "ä" * 512}}, {"units": 1}, {"amounts": 1},
        {"rollover": -1}, {"rollover": 1.0}, {"rollover": 1.5}, {"rollover": "1"}, {"rollover": True},
        {"rollover": None}, {"rollover": 2**53}, {"rollover": 10**30},
        {"rollover": []}, {"overdraftLimit": 1}, {"status": "active"} ],
    "deduct": [
        {"modelId": ""}, {"modelId": "m" * 65}, {"modelId": "flux pro"}, {"modelId": None}, {"units": 3},
        {"units": None}, {"expiresAt": "2100-01-01T00:00:00Z"}, {"reservationId": UUID},
        {"price": "1"}, {"overCapture": "cap"}, {"final": True},
    ],
    "reserve": [
        {"ttlSeconds": 0}, {"ttlSeconds": 86401}, {"ttlSeconds": -1}, {"ttlSeconds": "60"},
        {"ttlSeconds": 60.0}, {"ttlSeconds": None}, {"ttlSeconds": True}, {"taskId": ""},
        {"taskId": "t" * 256}, {"taskId": "tä"}, {"taskId": "a\u007f"}, {"taskId": "t\n"},
        {"taskId": None}, {"resourceId": ""}, {"resourceId": "r" * 256}, {"provider": "a:b"},
        {"provider": ""}, {"provider": "p" * 65}, {"units": 1}, {"reservationId": UUID},
        {"overCapture": "Cap"}, {"overCapture": ""}, {"overCapture": None}, {"overCapture": True},
        {"overCapture": 1}, {"overCapture": ["cap"]}, {"onExpired": "cap"}, {"onExpired": ""},
        {"onExpired": None}, {"onExpired": False}, {"onExpired": {}}, {"final": False},
        {"callback": "https://shop.test"} ],
    "confirm": [
        {"reservationId": "17"}, {"reservationId": UUID + "\n"}, {"reservationId": UUID.replace("-", "")},
        {"reservationId": "{" + UUID + "}"}, {"reservationId": None}, {"reservationId": 5}, {"taskId": "t"},
        {"provider": "fal"}, {"amount": -1}, {"amount": None}, {"accountId": None}, {"accountId": ""},
        {"final": None}, {"final": "true"}, {"final": 1}, {"final": 0}, {"final": "no"}, {"final": []},
        {"overCapture": "most"}, {"overCapture": None}, {"overCapture": 0}, {"onExpired": "cap"},
        {"onExpired": None}, {"onExpired": 1.5}, {"units": None}, {"reason": "no"}, {"ttlSeconds": 60},
    ],
    "cancel": [
        {"cause": "expired"}, {"cause": ""}, {"cause": None}, {"cause": 1}, {"reason": "r" * 501},
        {"amount": 1}, {"taskId": "t"}, {"reservationId": "x"}, {"final": True},
    ],
    "extend": [
        {"ttlSeconds": 0}, {"ttlSeconds": -60}, {"ttlSeconds": 86401}, {"ttlSeconds": "60"},
        {"ttlSeconds": 60.0}, {"ttlSeconds": True}, {"ttlSeconds": None},
        {"ttlSeconds": 10**30}, {"reservationId": "17"}, {"reservationId": None}, {"taskId": "t"},
        {"provider": "fal"}, {"accountId": ""}, {"accountId": None}, {"amount": 1}, {"reason": "why"},
        {"expiresAt": "2100-01-01T00:00:00Z"},
    ],
    "refund": [
        {"transactionId": "1-1"}, {"transactionId": "01-1-1"}, {"transactionId": "1-1-0"},
        {"transactionId": "1-1-1\n"}, {"transactionId": " 1-1-1"}, {"transactionId": "-1-1-1"},
        {"transactionId": "1-1-" + "9" * 400}, {"transactionId": "٣-1-1"}, {"transactionId": None},
        {"transactionId": 111}, {"transactionId": ["1-1-1"]}, {"reservationId": UUID},
        {"reservationId": None}, {"amount": 0}, {"amount": -1}, {"amount": None}, {"bucket": "overdraft"},
        {"bucket": ""}, {"bucket": None}, {"bucket": "b" * 65}, {"reason": "r" * 501}, {"reason": None},
        {"reason": "a\u0000"}, {"metadata": {"a": "b"}}, {"accountId": "alice"}, {"taskId": "t"},
    ],
    "adjust": [
        {"accountId": ""}, {"accountId": None}, {"amount": 0}, {"amount": -(2**53)}, {"amount": 2**53},
        {"amount": -1.0}, {"amount": "-1"}, {"amount": True}, {"amount": None}, {"amount": 10**30},
        {"bucket": "overdraft"}, {"bucket": None},
        {"short": "Take"}, {"short": ""}, {"short": None}, {"short": True}, {"short": 1}, {"reason": ""},
        {"reason": None}, {"reason": "r" * 501}, {"reason": 5}, {"reason": "tab\t"}, {"units": 1},
        {"metadata": {}},
    ],
}  # fmt: skip
SHAPELY = {
    "grant": {"accountId": "alice", "amount": 1},
    "deduct": {"accountId": "alice", "amount": 1},
    "reserve": {"accountId": "alice", "amount": 1},
    "confirm": {"reservationId": UUID},
    "cancel": {"reservationId": UUID},
    "extend": {"reservationId": UUID, "ttlSeconds": 60},
    "refund": {"transactionId": "1-1-1"},
    "adjust": {"accountId": "alice", "amount": 1, "reason": "why"},
}
BODIES = [
    crediting.GrantBody, spending.DeductBody, spending.ReserveBody, settling.ConfirmBody,
    settling.CancelBody, settling.ExtendBody, crediting.RefundBody, crediting.AdjustBody,
]  # fmt: skip
DECODERS = {body.verb: Strict[body](None).decode_bytes for body in BODIES}
NEITHER = [{}, {"accountId": "alice"}, {"amount": 1}, {"provider": "fal"}]


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
