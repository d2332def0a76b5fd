"""What an answer says when something is wrong: RFC 9457 with a stable `code`.

One table turns a word into status, title and a detail that says what to do. The engine's words come from
`app.ledger.errors`; a test holds both sides equal. Facts of an error become members of the answer: camelCase,
and `..._ms` becomes a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Struct, UnsetType

from app.http.times import iso

Headers = Sequence[tuple[bytes, bytes]]


class Row(NamedTuple):
    """A status and what people read. `detail` may name facts as `{name}`."""

    status: int
    title: str
    detail: str


LEDGER: dict[str, Row] = {
    "insufficient_credits": Row(
        402,
        "Not enough credits",
        "{required} credits are required and {available} are available. Grant credits or ask for fewer.",
    ),
    "credits_held": Row(
        402,
        "Credits are held by open reservations",
        "{required} credits are required, {available} are available and {held} are held by open reservations."
        " Confirm or cancel one, or wait until one runs out of time.",
    ),
    "account_not_found": Row(
        404, "No such account", "The account does not exist. A grant opens it; check the id otherwise."
    ),
    "reservation_not_found": Row(
        404,
        "No such reservation",
        "No such reservation exists here. Check the id, or the task and its provider.",
    ),
    "transaction_not_found": Row(
        404, "No such transaction", "No such transaction exists here. Check the id, as an answer gave it."
    ),
    "reservation_cancelled": Row(
        409,
        "The reservation was cancelled",
        "The reservation has been cancelled and its credits are released. Reserve again, or deduct.",
    ),
    "reservation_confirmed": Row(
        409,
        "The reservation was confirmed",
        "The reservation has been confirmed and its credits are spent. There is nothing left to cancel.",
    ),
    "task_conflict": Row(
        409,
        "The task is taken",
        "The task belongs to another reservation, or the reservation to another task."
        " Use the reservation that has it, or another task id.",
    ),
    "reservation_expired": Row(
        410,
        "The reservation ran out of time",
        "The reservation ran out of time and its credits are released. Reserve again, or deduct.",
    ),
    "idempotency_mismatch": Row(
        422,
        "The key was used for another request",
        "This Idempotency-Key belongs to a request with other content."
        " Repeat that request exactly, or use a new key.",
    ),
    "already_expired": Row(
        422,
        "The expiry is not in the future",
        "Credits cannot be granted that have lapsed already. Name an expiresAt in the future, or none.",
    ),
    "exceeds_reservation": Row(
        422,
        "More than is held",
        "{required} credits were to be confirmed and {held} are held."
        " Confirm at most what is held, and deduct the rest.",
    ),
    "balance_overflow": Row(
        422,
        "The balance would be too large",
        "A balance holds at most 9007199254740991 credits. Grant fewer.",
    ),
    "limit_reached": Row(
        422, "A limit of the account is reached", "The account has as many {what} as it may have: {limit}."
    ),
    "ledger_unavailable": Row(
        503,
        "The ledger does not answer",
        "The ledger cannot answer now. Repeat the request with the same key.",
    ),
    "ledger_fenced": Row(
        503,
        "The ledger is fenced",
        "This part of the ledger refuses rather than serve what the journal does not confirm."
        " An operator must look at it; repeat with the same key later.",
    ),
    "journal_backlogged": Row(
        503,
        "The journal is behind",
        "Too much is waiting to be journaled. Repeat the request with the same key in a moment.",
    ),
    "overloaded": Row(
        503, "The service is at its limit", "The service is busy. Repeat with the same key in a moment."
    ),
    "internal_error": Row(
        500,
        "A bug",
        "Something went wrong that should not, and is logged."
        " Repeat with the same key: what was done is answered, and never done twice.",
    ),
}

_UNCHANGED = " This request changed nothing; repeat it with the same key."

CAUSES: dict[tuple[str, str], str] = {
    ("ledger_unavailable", "full"): "Redis is full." + _UNCHANGED,
    ("ledger_unavailable", "not_persisting"): "Redis does not write to its disk as it must." + _UNCHANGED,
    ("ledger_unavailable", "read_only"): "Redis is a replica now and takes no writes." + _UNCHANGED,
    ("ledger_unavailable", "too_few_replicas"): "Redis has too few replicas to take writes." + _UNCHANGED,
    ("ledger_unavailable", "not_replicated"): "Too few replicas have acknowledged in time. The request may"
    " have been carried out: repeat it with the same key, and what was done is answered, never done twice.",
    ("overloaded", "memory"): "Redis has little memory left, so nothing new is taken on; confirm, cancel and"
    " reads go on. Repeat with the same key in a moment.",
}
"""What is said instead of a row's detail where the `cause` is known."""

HTTP: dict[str, Row] = {
    "invalid_request": Row(400, "The request is not valid", "{why}"),
    "invalid_cursor": Row(
        400, "The cursor is not valid", "Start again without a cursor, with the same filters."
    ),
    "unauthenticated": Row(
        401,
        "Who are you?",
        "Send `Authorization: Bearer <api key>` with a key that is neither revoked nor expired.",
    ),
    "forbidden": Row(403, "Not allowed", "{why}"),
    "not_found": Row(404, "No such path", "This path does not exist. /docs lists those that do."),
    "method_not_allowed": Row(
        405, "No such method", "This path does not take this method. Allow says which."
    ),
    "body_too_large": Row(413, "The body is too large", "A body has at most {limit} bytes."),
}

TABLE = LEDGER | HTTP


class ProblemBody(Struct, rename="camel", kw_only=True):
    """RFC 9457, and the facts of the case beside it."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | UnsetType = UNSET
    required: int | UnsetType = UNSET
    available: int | UnsetType = UNSET
    held: int | UnsetType = UNSET
    open_reservations: int | UnsetType = UNSET
    next_release_at: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    at: str | UnsetType = UNSET
    reservation: str | UnsetType = UNSET
    task: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    now: str | UnsetType = UNSET
    what: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    shard: int | UnsetType = UNSET
    account: str | UnsetType = UNSET
    why: str | UnsetType = UNSET


class Problem(Exception):
    """What HTTP itself refuses. `facts` as in the table's detail; `why` is not repeated as a member."""

    def __init__(self, code: str, facts: Mapping[str, int | str], headers: Headers = ()) -> None:
        super().__init__(code, facts)
        self.code = code
        self.facts = facts
        self.headers = headers


def invalid(why: str, **facts: int | str) -> Problem:
    """A request of the wrong shape; `why` names the field and what is wrong with it."""
    return Problem("invalid_request", {"why": why, **facts})


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"({key} unknown)"


def body(code: str, facts: Mapping[str, int | str], more: str = "") -> dict[str, Any]:
    """The members of a problem, those of RFC 9457 first."""
    row = TABLE[code]
    detail = CAUSES.get((code, str(facts.get("cause"))), row.detail)
    answer: dict[str, Any] = {
        "type": f"urn:lastro:problem:{code}",
        "title": row.title,
        "status": row.status,
        "code": code,
        "detail": detail.format_map(_Facts(facts)) + more,
    }
    for name, fact in facts.items():
        first, *rest = name.removesuffix("_ms").split("_")
        member = first + "".join(map(str.capitalize, rest))
        if name != "why" or code not in HTTP:
            answer.setdefault(member, iso(fact) if name.endswith("_ms") and isinstance(fact, int) else fact)
    return answer
