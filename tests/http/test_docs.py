"""`/docs` describes the program truthfully, and needs nothing from anywhere else."""

import json
import re
from importlib.resources import files
from pathlib import Path

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from app.http import batched, crediting, settling, spending
from app.http.codes import TABLE
from app.http.queries import TransactionsQuery
from app.main import create_app
from app.settings import Settings

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
    assert TABLE.keys() - {"not_found", "method_not_allowed", "batch_failed"} == described


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
    shown = ("ProblemBody", "Settled", "Moved", "Adjusted")
    assert {"status", "replayed", "conflict"} | {
        name for of in shown for name in schemas[of]["properties"]
    } == result


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
