"""`/docs` describes the program truthfully, and needs nothing from anywhere else."""

import json
import re
from importlib.resources import files
from pathlib import Path

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from app.http import batched, crediting, docs, examples, settling, spending
from app.http.codes import TABLE
from app.http.queries import TransactionsQuery
from app.http.wire import Strict
from app.settings import Settings
from tests.http.serving import create_app

SCHEMA_OF_OPENAPI = json.loads((Path(__file__).parent / "openapi-3.1.schema.json").read_text())


@pytest.fixture
async def stranger():
    """A client of an application that has not started: documents need no Redis and no PostgreSQL."""
    app = create_app(Settings(redis_url="redis://nowhere.test", database_url="postgresql://nowhere.test/"))
    app.state.parts = None
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lastro.test") as client:
        yield client


@pytest.fixture
async def document(stranger):
    answer = await stranger.get("/docs/openapi.json")
    assert (200, "application/vnd.oai.openapi+json") == (answer.status_code, answer.headers["content-type"])
    return answer.json()


async def test_the_document_is_openapi_3_1_with_schemas_that_are_schemas(document):
    Draft202012Validator(SCHEMA_OF_OPENAPI).validate(document)
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_every_reference_leads_somewhere(document):
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        found = document
        for step in reference.split("/"):
            found = found[step]


async def test_bodies_are_described_as_they_are_read(document):
    for path, body in {
        "/api/credits/grant": crediting.GrantBody,
        "/api/credits/deduct": spending.DeductBody,
        "/api/credits/reserve": spending.ReserveBody,
        "/api/credits/confirm": settling.ConfirmBody,
        "/api/credits/cancel": settling.CancelBody,
        "/api/credits/extend": settling.ExtendBody,
        "/api/credits/refund": crediting.RefundBody,
        "/api/credits/adjust": crediting.AdjustBody,
        "/api/credits/batch": batched.BatchBody,
    }.items():
        described = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        name = described["$ref"].rpartition("/")[2]
        shown = document["components"]["schemas"][name]
        _, schemas = msgspec.json.schema_components([body])
        assert schemas[body.__name__]["properties"].keys() == shown["properties"].keys()
        assert set(schemas[body.__name__].get("required", ())) == set(shown.get("required", ()))
        assert shown["additionalProperties"] is False, "unknown fields are refused"
        amount = shown["properties"].get("amount", {})
        if amount:
            least = {"confirm": 0, "adjust": -(2**53 - 1)}.get(path.rpartition("/")[2], 1)
            assert (least, 2**53 - 1) == (amount["minimum"], amount["maximum"])


async def test_queries_and_headers_are_described_as_they_are_read(document):
    listed = document["paths"]["/api/credits/transactions"]["get"]["parameters"]
    assert {field.encode_name for field in msgspec.structs.fields(TransactionsQuery)} == {
        each["name"] for each in listed
    }
    deduct = document["paths"]["/api/credits/deduct"]["post"]["parameters"]
    assert {"Idempotency-Key", "Lastro-Ack"} == {each["name"] for each in deduct}


async def test_every_code_is_described_somewhere_but_those_of_paths_that_do_not_exist(document):
    described = set(re.findall(r"`([a-z_]+)`", json.dumps([
        answer["description"]
        for path in document["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
    ])))  # fmt: skip
    assert TABLE.keys() - {"method_not_allowed", "batch_failed"} == described


async def test_what_a_batch_takes_and_answers_is_described(document):
    schemas = document["components"]["schemas"]
    operations = schemas["BatchBody"]["properties"]["operations"]
    assert (1, 1000) == (operations["minItems"], operations["maxItems"])
    mapping = operations["items"]["discriminator"]["mapping"]
    assert ["grant", "deduct", "reserve", "confirm", "cancel", "extend", "refund", "adjust"] == list(mapping)
    for verb, reference in mapping.items():
        batched_, alone = (
            schemas[name] for name in (reference.rpartition("/")[2], f"{verb.capitalize()}Body")
        )
        assert alone["properties"].keys() | {"operation", "idempotencyKey"} == batched_["properties"].keys()
        assert {*alone.get("required", ()), "operation"} == set(batched_["required"])
    result = schemas["Result"]["properties"].keys()
    shown = ("ProblemBody", "Reserved", "Moved", "Adjusted")
    assert {"status", "replayed", "conflict"} | {
        name for of in shown for name in schemas[of]["properties"]
    } == result


def operations(document):
    return [each for path in document["paths"].values() for each in path.values()]


def is_of(schema, value, document) -> None:
    rooted = {**schema, "components": document["components"]}
    Draft202012Validator(rooted, format_checker=FormatChecker()).validate(value)


async def test_every_body_has_an_example_that_its_route_would_take(document):
    bodies = {each.__name__: each for each in docs._SHOWN}
    taken = set()
    for operation in operations(document):
        for of in operation.get("requestBody", {}).get("content", {}).values():
            value = of["examples"]["usual"]["value"]
            is_of(of["schema"], value, document)
            name = of["schema"]["$ref"].rpartition("/")[2]
            assert Strict[bodies[name]].decode(json.dumps(value).encode())
            taken.add(operation["operationId"])
    assert examples.BODIES.keys() == taken


async def test_every_answer_has_an_example_of_its_schema(document):
    given = set()
    for operation in operations(document):
        for status, response in operation["responses"].items():
            for media_type, of in response["content"].items():
                if status.startswith("2") and media_type == "application/json":
                    is_of(of["schema"], of["examples"]["usual"]["value"], document)
                    given.add(operation["operationId"])
    of_json = {each["operationId"] for each in operations(document)} - {"metrics"}  # answers text
    assert examples.ANSWERS.keys() == given == of_json


async def test_every_error_has_its_body_and_an_example_for_each_of_its_codes(document):
    for operation in operations(document):
        wrong = {int(status): each for status, each in operation["responses"].items() if int(status) >= 400}
        if operation["operationId"] in ("live", "ready"):
            continue
        assert {400, 401, 500, 503} <= wrong.keys(), operation["operationId"]
        for status, response in wrong.items():
            of = response["content"]["application/problem+json"]
            assert of["examples"], (operation["operationId"], status)
            for code, reference in of["examples"].items():
                assert {"$ref": f"#/components/examples/{code}"} == reference
                value = document["components"]["examples"][code]["value"]
                is_of(of["schema"], value, document)
                assert (status, code) == (value["status"], value["code"])
                assert "unknown)" not in value["detail"]


async def test_every_route_says_with_what_one_may_come(document):
    key, user = {"key": []}, {"user": []}
    for operation in operations(document):
        tags = operation["tags"]
        name = operation["operationId"]
        if tags == ["health"] or name in ("webhook", "webhookToo", "callback"):
            assert [{}] == operation["security"]
        elif name in ("balance", "transactions", "transaction", "reservation", "deduct", "reserve", "quote"):
            assert [key, user] == operation["security"]
        else:
            assert key == operation["security"][0]
    assert {"key", "user"} == document["components"]["securitySchemes"].keys()


async def test_the_viewer_comes_with_the_program_and_may_load_nothing_else(stranger):
    page = await stranger.get("/docs")
    assert 200 == page.status_code
    assert not re.findall(r"(?:src|href|url)=\"?(?:https?:)?//", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*|unsafe-eval", policy)
    script = re.findall(r'<script type="module" src="([^"]+)"', page.text)
    viewer = await stranger.get(script[0])
    assert (200, "text/javascript; charset=utf-8") == (viewer.status_code, viewer.headers["content-type"])
    assert b"rapi-doc" in viewer.content
    assert "nosniff" == viewer.headers["x-content-type-options"]


def test_the_viewer_comes_with_its_licence():
    static = files("app.http").joinpath("static")
    assert "MIT License" in static.joinpath("rapidoc.LICENSE.txt").read_text()
