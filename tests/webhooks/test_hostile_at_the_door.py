"""Hostile bytes at the doors of a whole running ledger: 401, 400 or 404, never a fault, and nothing moves."""

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.webhooks.deliveries import FAL_PRIVATE, SECRETS, SENDERS, SIGNING
from tests.webhooks.doors import WithDoors
from tests.webhooks.test_hostile import JSON, NAMES, WORDS

LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=100)
BODIES = st.one_of(st.binary(max_size=200), JSON.map(msgspec.json.encode))
STEPS = st.one_of(
    st.text(max_size=30), st.sampled_from(["..", ".", "%2e%2e", "{}", "*", "a\r\nb", "\x00", *WORDS])
)
some = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def posted(running: WithDoors, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """The status, and the word or the code of the answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        connection.request(
            "POST", path, body, {name: value.encode("latin-1") for name, value in headers.items()}
        )
        answer = connection.getresponse()
        said = answer.read()
    return answer.status, json.loads(said).get("code", "")


@pytest.fixture(scope="module", autouse=True)
def nothing_moves(running: WithDoors):
    running.did("grant", accountId="watched", amount=100)
    running.did("reserve", accountId="watched", amount=40, provider="sync", taskId="watched")
    before = running.get("/api/credits/balance?accountId=watched")
    yield
    assert before == running.get("/api/credits/balance?accountId=watched")
    assert running.get("/api/credits/balance?accountId=stranger")[0] == 404


@some
@given(st.sampled_from(sorted(SENDERS)), st.dictionaries(st.sampled_from(NAMES), LATIN), BODIES)
def test_what_nobody_signed_is_not_let_in(running, name, headers, body):
    assert (401, "unauthenticated") == posted(running, f"/api/webhooks/{name}", headers, body)


@some
@given(st.sampled_from(SIGNING), BODIES)
def test_what_is_signed_is_understood_or_refused(running, name, body):
    secret = FAL_PRIVATE if name == "fal" else SECRETS[name]
    headers = SENDERS[name].sign(body, secret, time.time(), "msg")
    assert posted(running, f"/api/webhooks/{name}", headers, body) in [(200, ""), (400, "invalid_request")]


@some
@given(st.lists(STEPS, min_size=1, max_size=4), BODIES)
def test_no_path_leads_in(running, steps, body):
    path = "/api/webhooks/" + "/".join(quote(step, safe="%") for step in steps)
    status, code = posted(running, path, {}, body)
    assert (status, code) in [
        (401, "unauthenticated"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (400, "invalid_request"),
    ]
