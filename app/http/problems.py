"""What an answer says when something is wrong: RFC 9457 with a stable `code`.

Status, title and sentence are those of `app.http.codes`. Facts of an error become members of the answer:
camelCase, and `..._ms` becomes a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from app.http.codes import HTTP, SPECIAL, TABLE
from app.http.times import iso

Headers = Sequence[tuple[bytes, bytes]]


class ProblemBody(Struct, rename="camel", kw_only=True, gc=False):
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
    debt: int | UnsetType = UNSET
    refunded: int | UnsetType = UNSET
    left: int | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    reservation_status: str | UnsetType = UNSET
    open_reservations: int | UnsetType = UNSET
    next_release_at: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    at: str | UnsetType = UNSET
    reservation: str | UnsetType = UNSET
    task: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    latest: str | UnsetType = UNSET
    now: str | UnsetType = UNSET
    what: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    shard: int | UnsetType = UNSET
    account: str | UnsetType = UNSET
    why: str | UnsetType = UNSET


_NAMES = {"status": "reservation_status"}
"""Facts that would be taken for something else beside the members of every problem."""


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
    detail = SPECIAL.get((code, str(facts.get("cause") or facts.get("what"))), row.detail)
    shown = {
        name.removesuffix("_ms"): iso(fact) if name.endswith("_ms") and isinstance(fact, int) else fact
        for name, fact in facts.items()
    }
    answer: dict[str, Any] = {
        "type": f"urn:lastro:problem:{code}",
        "title": row.title,
        "status": row.status,
        "code": code,
        "detail": detail.format_map(_Facts(shown)) + more,
    }
    for name, fact in shown.items():
        first, *rest = _NAMES.get(name, name).split("_")
        if name != "why" or code not in HTTP:
            answer.setdefault(first + "".join(map(str.capitalize, rest)), fact)
    return answer
