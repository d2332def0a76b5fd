"""Every word of the engine has a status, a title and a sentence; and nothing else has."""

import re
from string import Formatter

import httpx
import pytest
from litestar import Litestar, get
from msgspec.structs import fields
from structlog.testing import capture_logs

from app.http.codes import HTTP, LEDGER, SPECIAL, TABLE
from app.http.handlers import HANDLERS
from app.http.problems import ProblemBody, body
from app.http.wire import Answer, LedgerRequest
from app.ledger import errors
from app.ledger.errors import (
    FULL,
    JOURNAL,
    KEY,
    MEMORY,
    NOT_PERSISTING,
    NOT_REPLICATED,
    READ_ONLY,
    TOO_FEW_REPLICAS,
)


def _drawn_facts() -> dict[str, set[str]]:
    """The facts of each error, as the tree in the engine's docstring draws them."""
    leaves = errors.leaves()
    facts: dict[str, set[str]] = {word: set() for word in leaves}
    drawn = dict(re.findall(r"── (\w+) *(.*)", errors.__doc__ or ""))
    for word, error in leaves.items():
        if issubclass(error, errors.Refused | errors.LedgerFenced):
            facts[word] = set(re.findall(r"[a-z_]+", drawn[error.__name__].partition(":")[0])) - {"or"}
    return facts


def test_every_error_of_the_engine_has_a_row_and_every_row_an_error():
    assert errors.leaves().keys() == LEDGER.keys()


def test_no_code_is_both_the_engines_and_https():
    assert not LEDGER.keys() & HTTP.keys()


@pytest.mark.parametrize("code", LEDGER)
def test_a_sentence_names_only_facts_that_its_error_has(code):
    named = {name for _, name, _, _ in Formatter().parse(LEDGER[code].detail) if name}
    assert named <= {fact.removesuffix("_ms") for fact in _drawn_facts()[code]}


@pytest.mark.parametrize("code", TABLE)
def test_a_sentence_says_what_to_do_and_ends(code):
    detail = TABLE[code].detail
    assert detail == "{why}" or detail.endswith(".")
    assert not TABLE[code].title.endswith(".")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_request", 400),
        ("invalid_cursor", 400),
        ("unauthenticated", 401),
        ("forbidden", 403),
        ("insufficient_credits", 402),
        ("credits_held", 402),
        ("account_not_found", 404),
        ("reservation_not_found", 404),
        ("transaction_not_found", 404),
        ("not_found", 404),
        ("method_not_allowed", 405),
        ("reservation_cancelled", 409),
        ("reservation_confirmed", 409),
        ("task_conflict", 409),
        ("account_frozen", 409),
        ("account_closed", 409),
        ("account_not_empty", 409),
        ("overdraft_in_use", 409),
        ("reservation_expired", 410),
        ("body_too_large", 413),
        ("idempotency_mismatch", 422),
        ("exceeds_reservation", 422),
        ("already_expired", 422),
        ("balance_overflow", 422),
        ("limit_reached", 422),
        ("idempotency_key_required", 422),
        ("exceeds_transaction", 422),
        ("not_refundable", 422),
        ("invalid_extension", 422),
        ("batch_across_shards", 422),
        ("batch_failed", 424),
        ("model_not_found", 404),
        ("internal_error", 500),
        ("ledger_unavailable", 503),
        ("ledger_fenced", 503),
        ("journal_backlogged", 503),
        ("overloaded", 503),
    ],
)
def test_statuses_are_those_of_the_contract(code, status):
    assert status == TABLE[code].status


CAUSES = {
    "ledger_unavailable": (
        FULL,
        NOT_PERSISTING,
        READ_ONLY,
        TOO_FEW_REPLICAS,
        NOT_REPLICATED,
        JOURNAL,
        KEY,
        "rate_card",
    ),
    "overloaded": (MEMORY, "long_answers", "long_deliveries", "webhooks"),
    "rate_limited": ("key", "account"),
}
BEFORE_ALL = {("ledger_unavailable", "token_keys")}
"""Nobody was let in yet, so that nothing can have been done."""
ABSENT = {("not_found", what) for what in ("door", "delivery", "endpoint", "event")}
UNPROVED = {("unauthenticated", "delivery")}
LIMITS = ("lots", "holds", "extensions", "parts", "models", "endpoints")


def test_every_cause_has_a_sentence_that_says_whether_something_was_done():
    named = {(code, cause) for code, causes in CAUSES.items() for cause in causes}
    limits = {("limit_reached", what) for what in LIMITS}
    assert named | BEFORE_ALL | ABSENT | UNPROVED | limits == SPECIAL.keys()
    for code, cause in named | BEFORE_ALL:
        sentence = SPECIAL[code, cause]
        assert sentence.replace("{limit}", "17") == body(code, {"cause": cause, "limit": 17})["detail"]
        assert re.search(r"[Rr]epeat|Send it again", sentence), sentence
        if code == "ledger_unavailable" and (code, cause) not in BEFORE_ALL:
            assert ("may have been carried out" if cause == NOT_REPLICATED else "changed nothing") in sentence


def test_what_has_reached_its_limit_is_said_with_what_to_do():
    for what in LIMITS:
        detail = body("limit_reached", {"what": what, "limit": 17})["detail"]
        assert "17" in detail
        assert re.search(r"\. (Use|Confirm|Remove) ", detail), detail
    assert (
        "as many sails as there may be: 3" in body("limit_reached", {"what": "sails", "limit": 3})["detail"]
    )


def test_a_cause_without_a_sentence_leaves_that_of_the_row():
    assert LEDGER["overloaded"].detail == body("overloaded", {"cause": "queue"})["detail"]
    assert (
        LEDGER["reservation_cancelled"].detail == body("reservation_cancelled", {"cause": "full"})["detail"]
    )


def test_facts_become_members_in_camel_case_and_milliseconds_become_times():
    facts = {
        "required": 5,
        "available": 1,
        "held": 4,
        "open_reservations": 2,
        "next_release_at_ms": 1_795_290_000_123,
    }
    assert {
        "type": "urn:lastro:problem:credits_held",
        "title": "Credits are held by open reservations",
        "status": 402,
        "code": "credits_held",
        "detail": "5 credits are required, 1 are available and 4 are held by open reservations."
        " Confirm or cancel one, or wait until one runs out of time.",
        "required": 5,
        "available": 1,
        "held": 4,
        "openReservations": 2,
        "nextReleaseAt": "2026-11-21T19:40:00.123Z",
    } == body("credits_held", facts)


def test_a_fact_never_replaces_what_a_problem_must_say():
    told = body("not_refundable", {"status": "cancelled"})
    assert (422, "cancelled") == (told["status"], told["reservationStatus"])
    assert 409 == body("reservation_confirmed", {"code": "confirmed", "status": "confirmed"})["status"]


def test_times_stand_in_sentences_as_they_stand_in_members():
    told = body("invalid_extension", {"expires_at_ms": 1_795_290_000_123, "latest_ms": 1_795_290_000_000})
    assert ("2026-11-21T19:40:00.123Z", "2026-11-21T19:40:00.000Z") == (told["expiresAt"], told["latest"])
    assert f"ends at {told['expiresAt']}, and this would make it {told['latest']}" in told["detail"]


def test_a_missing_fact_is_said_and_does_not_break_the_answer():
    assert "(required unknown) credits" in body("insufficient_credits", {})["detail"]


def test_the_document_knows_every_member_that_an_error_may_bring():
    documented = {field.encode_name for field in fields(ProblemBody)}
    for code, facts in _drawn_facts().items():
        assert set(body(code, dict.fromkeys(facts, 1))) <= documented, code


async def test_a_bug_is_a_500_that_tells_nothing_of_itself_and_is_logged():
    @get("/bug")
    async def bug() -> None:
        raise RuntimeError("a secret")

    app = Litestar(
        [bug],
        exception_handlers=HANDLERS,
        request_class=LedgerRequest,
        response_class=Answer,
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://lastro.test") as client:
        with capture_logs() as logged:
            answer = await client.get("/bug")
    assert (500, "internal_error") == (answer.status_code, answer.json()["code"])
    assert "secret" not in answer.text
    assert ["RuntimeError('a secret')"] == [repr(each["exc_info"]) for each in logged]
