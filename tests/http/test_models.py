"""The rate card over HTTP: who may put what, what a quote says, and what is kept of it with a charge."""

from datetime import datetime

import httpx
import pytest

from app.rates import CardUnknown
from tests.http.refused import is_invalid

MODELS = "/api/credits/models"
QUOTE = "/api/credits/quote"
LARGEST = 2**53 - 1


async def put(client: httpx.AsyncClient, model: str = "lip-sync", base=1, price=1, **more) -> dict:
    answer = await client.put(MODELS, json={"modelId": model, "base": base, "price": price, **more})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def quote(client: httpx.AsyncClient, units, model: str = "lip-sync") -> dict:
    answer = await client.post(QUOTE, json={"modelId": model, "units": units})
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def test_a_model_is_put_and_its_units_are_quoted_at_once(client):
    made = await put(client, base=1, price="1.000", ttlSeconds=900)
    at = made.pop("at")
    assert datetime.fromisoformat(at)
    assert {
        "modelId": "lip-sync", "version": 1, "base": "1", "price": "1", "ttlSeconds": 900, "by": "key:all",
    } == made  # fmt: skip
    of = {"modelId": "lip-sync", "version": 1, "base": "1", "price": "1", "ttlSeconds": 900}
    assert {**of, "units": "50", "credits": 51} == await quote(client, 50)
    assert {**of, "units": "12", "credits": 13} == await quote(client, "12.0")
    assert {**of, "units": "11.000001", "credits": 13} == await quote(client, "11.000001")


async def test_a_version_has_a_ttl_only_where_one_was_given(client):
    assert "ttlSeconds" not in await put(client)
    assert "ttlSeconds" not in await quote(client, 1)
    assert 2 == (await put(client, ttlSeconds=1))["version"]
    assert 3 == (await put(client))["version"]


async def test_the_same_values_again_in_whatever_writing_make_no_version(client):
    first = await put(client, base="0.50", price=2)
    assert first == await put(client, base="0.5", price="2.000000")
    assert 2 == (await put(client, base="0.5", price="2.000001"))["version"]


async def test_the_card_is_listed_by_model_and_one_models_versions_newest_first(client):
    for price in ("1", "2.5", "0.000001"):
        await put(client, price=price)
    upscale = await put(client, "upscale/4x", base=4, price=0)
    listed = (await client.get(MODELS)).json()
    assert [("lip-sync", 3, "0.000001"), ("upscale/4x", 1, "0")] == [
        (each["modelId"], each["version"], each["price"]) for each in listed["data"]
    ]
    assert upscale == listed["data"][1]
    assert (None, False) == (listed["nextCursor"], listed["hasMore"])
    page = (await client.get(MODELS, params={"modelId": "lip-sync", "limit": 2})).json()
    assert [3, 2] == [each["version"] for each in page["data"]]
    assert page["hasMore"]
    more = {"modelId": "lip-sync", "cursor": page["nextCursor"]}
    assert [1] == [each["version"] for each in (await client.get(MODELS, params=more)).json()["data"]]
    wrong = await client.get(MODELS, params={**more, "modelId": "upscale/4x"})
    assert (400, "invalid_cursor") == (wrong.status_code, wrong.json()["code"])


async def test_an_empty_card_is_an_empty_page(client):
    assert {"data": [], "nextCursor": None, "hasMore": False} == (await client.get(MODELS)).json()


async def test_a_model_that_is_not_on_the_card_is_404(client):
    for answer in (
        await client.get(MODELS, params={"modelId": "nobody"}),
        await client.post(QUOTE, json={"modelId": "nobody", "units": 1}),
    ):
        assert (404, "model_not_found") == (answer.status_code, answer.json()["code"])


NUMBERS = [
    "-1", "1.0", "0.5", "1e3", "1E400", "true", "null", "[1]", "{}", "9007199254740992",
    "18446744073709551616", "9" * 5000, '""', '" 1"', '"1 "', '"1\\n"', '"-1"', '"+1"', '"1e3"', '"NaN"',
    '"Infinity"', '".5"', '"5."', '"007"', '"1_000"', '"1,5"', '"0x10"', '"1.1234567"', '"\\u0663"',
    '"9007199254740991.000001"', '"9007199254740992"', '"' + "9" * 5000 + '"', '"1\\u0000"', '"1/3"',
]  # fmt: skip
NO_JSON = ["01", "+1", "0x10", "NaN", "Infinity", ".5", "1_000"]


async def test_numbers_are_integers_or_decimal_strings_within_their_bounds(client):
    await put(client)
    asked = [
        ("PUT", MODELS, "base", "price"),
        ("PUT", MODELS, "price", "base"),
        ("POST", QUOTE, "units", None),
    ]
    for method, path, field, other in asked:
        more = f', "{other}": 2' if other else ""
        for number in NUMBERS + NO_JSON:
            content = f'{{"modelId": "lip-sync", "{field}": {number}{more}}}'
            answer = await client.request(method, path, content=content)
            assert is_invalid(answer), (field, number)
            if number not in NO_JSON:
                assert field == answer.json()["field"], (number, answer.text)
                assert f"`{field}`: " in answer.json()["detail"]
    assert 1 == len((await client.get(MODELS, params={"modelId": "lip-sync"})).json()["data"])


async def test_a_row_of_another_shape_is_refused(client):
    row = {"modelId": "m", "base": 1, "price": 1}
    for changed in [
        {"modelId": ""}, {"modelId": "a b"}, {"modelId": "m" * 65}, {"modelId": None}, {"ttlSeconds": 0},
        {"ttlSeconds": 86_401}, {"ttlSeconds": "60"}, {"ttlSeconds": 1.5}, {"ttlSeconds": None},
        {"version": 1}, {"by": "me"}, {"units": 1},
    ]:  # fmt: skip
        assert is_invalid(await client.put(MODELS, json={**row, **changed}))
    for missing in row:
        less = {name: value for name, value in row.items() if name != missing}
        assert is_invalid(await client.put(MODELS, json=less))
    assert is_invalid(await client.get(MODELS, params={"limit": 201}))
    assert is_invalid(await client.get(MODELS, params={"model": "m"}))
    assert [] == (await client.get(MODELS)).json()["data"]


async def test_what_comes_to_no_amount_is_refused_with_what_it_comes_to(client):
    for base, price, units, comes_to in [
        (0, 1, 0, 0),
        (0, 0, 5, 0),
        (LARGEST, 1, 1, LARGEST + 1),
        (LARGEST, "0.000001", "0.000001", LARGEST + 1),
        (LARGEST, LARGEST, LARGEST, LARGEST + LARGEST**2),
    ]:
        await put(client, base=base, price=price)
        answer = await client.post(QUOTE, json={"modelId": "lip-sync", "units": units})
        assert is_invalid(answer)
        assert "units" == answer.json()["field"]
        assert f" {comes_to} credits " in answer.json()["detail"]


async def test_the_smallest_and_the_largest_amount_are_quoted(client):
    await put(client, base=0, price="0.000001")
    assert 1 == (await quote(client, "0.000001"))["credits"]
    await put(client, base=LARGEST, price=0)
    assert LARGEST == (await quote(client, LARGEST))["credits"]


async def test_putting_is_for_operators_quoting_for_those_who_spend_and_reading_for_all_readers(
    client_of, client
):
    await put(client)
    may = {
        "spend": (403, 200, 200),
        "grant": (403, 403, 403),
        "read": (403, 200, 403),
        "operate": (200, 200, 403),
    }
    for scope, statuses in may.items():
        async with await client_of(scope) as other:
            row = {"modelId": "lip-sync", "base": 1, "price": 1}
            answers = (
                await other.put(MODELS, json=row),
                await other.get(MODELS),
                await other.post(QUOTE, json={"modelId": "lip-sync", "units": 1}),
            )
            assert statuses == tuple(answer.status_code for answer in answers), scope


async def test_a_key_of_one_account_may_quote_and_put_nothing(client_of, client):
    await put(client)
    async with await client_of("operate", "spend", account="bob") as bobs:
        assert 51 == (await quote(bobs, 50))["credits"]
        answer = await bobs.put(MODELS, json={"modelId": "lip-sync", "base": 0, "price": 0})
        assert (403, "forbidden") == (answer.status_code, answer.json()["code"])


async def test_a_card_that_is_full_says_so(client, monkeypatch):
    monkeypatch.setattr("persistence.rates.MODELS_MAX", 1)
    await put(client)
    answer = await client.put(MODELS, json={"modelId": "another", "base": 1, "price": 1})
    assert (422, "limit_reached", "models") == (
        answer.status_code, answer.json()["code"], answer.json()["what"],
    )  # fmt: skip


async def test_a_model_that_nobody_can_look_up_is_503_and_never_404(app, client, monkeypatch):
    """As while PostgreSQL is away: what is on the card is priced, what is not cannot be judged."""
    await put(client)
    card = app.state.parts.rates.card

    async def away(_: object) -> None:
        card.is_current = False

    monkeypatch.setattr(app.state.parts.rates, "learn", away)
    answer = await client.post(QUOTE, json={"modelId": "nobody", "units": 1})
    assert (503, "ledger_unavailable", "rate_card") == (
        answer.status_code, answer.json()["code"], answer.json()["cause"],
    )  # fmt: skip
    assert "retry-after" in answer.headers
    assert 51 == (await quote(client, 50))["credits"]
    with pytest.raises(CardUnknown):
        card.price("nobody", 1)
