"""Every request that was answered is counted here, and has one wide line in the log: which request, who
asked, what it was about, what came of it and how long it took.

To write a line costs as much as half a request. So `sampled`, the default, writes a bounded number of them a
second: below that every request has its line, above it each line says how many have none. Those that failed
and those that were slow have a bound of their own, so that they are not lost among the others. A line names
accounts, reservations and transactions; it has neither bodies nor metadata nor paths, in which a callback's
token may stand, and of a key only its public prefix.
"""

import logging
import re
from collections import Counter
from typing import Any, Literal

import structlog
from litestar.types import Scope
from msgspec import UNSET

from app.ledger.receipts import Receipt
from app.ledger.tally import Histogram
from app.sparing import Sparing

LogRequests = Literal["off", "sampled", "all"]

LINES_PER_SECOND = 20
"""Of ordinary requests, and as many again of those that are worth a look."""

SLOW_SECONDS = 1.0
REFUSED, FAILED = 400, 500
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNROUTED = "unrouted"
"""The route of requests that have none. Their method is not counted either: it may be any word."""

_TEXT_MAX = 128
_PREFIX = re.compile(rb"Bearer +(lk_[a-z0-9]{8})_", re.IGNORECASE)

_logger = logging.getLogger("lastro.request")
log = structlog.get_logger("lastro.request")


class Watch:
    """What one process has answered. `answered`: by method, route and status (0: no answer was begun), after
    how many seconds; `problems` by route and code, `deliveries` of webhooks by provider and what came of
    them; `open` is how many are being answered.
    """

    def __init__(self, lines: LogRequests = "sampled") -> None:
        self.answered: dict[tuple[str, str, int], Histogram] = {}
        self.problems: Counter[tuple[str, str]] = Counter()
        self.deliveries: Counter[tuple[str, str]] = Counter()
        self.open = 0
        self.ordinary = Sparing(LINES_PER_SECOND)
        self.notable = Sparing(LINES_PER_SECOND)
        self._lines = lines

    def ended(self, scope: Any, status: int, seconds: float) -> None:
        """A request was answered, or cut off. All of them come through here."""
        route = scope.get("path_template", UNROUTED)
        method = scope["method"] if route is not UNROUTED else "any"
        histogram = self.answered.get((method, route, status))
        if histogram is None:
            histogram = self.answered[method, route, status] = Histogram(REQUEST_SECONDS)
        histogram.observe(seconds)
        if status >= REFUSED and "code" in scope:
            self.problems[route, scope["code"]] += 1
        if "delivery" in scope:
            self.deliveries[scope["delivery"]] += 1
        lines = self._lines
        if lines != "off":
            notable = status >= FAILED or not status or seconds >= SLOW_SECONDS
            if lines == "all" or (self.notable if notable else self.ordinary).lets_through():
                self._write(scope, method, route, status, seconds)

    def _write(self, scope: Scope, method: str, route: str, status: int, seconds: float) -> None:
        failed = status >= FAILED or not status
        level = logging.WARNING if failed else logging.INFO
        if not _logger.isEnabledFor(level):
            return
        facts = {
            "method": method,
            "route": route,
            "status": status,
            "code": scope.get("code"),
            "delivery": scope["delivery"][1] if "delivery" in scope else None,  # type: ignore[typeddict-item]
            "duration_ms": round(seconds * 1000, 3),
            "trace_id": scope.get("trace"),
            **_who(scope),
            **_what(scope),
            "kept_back": self.ordinary.since_last() + self.notable.since_last() or None,
        }
        say = log.warning if failed else log.info
        say("request", **{name: fact for name, fact in facts.items() if fact is not None})


def _who(scope: Scope) -> dict[str, str | None]:
    """Who asked: by what the journal calls it, and of a key its public prefix."""
    caller: Any = scope.get("caller")
    if caller is None:
        return {}
    prefix = _PREFIX.match(caller.headers.get(b"authorization", b""))
    return {"by": caller.principal.by, "key": prefix[1].decode() if prefix else None}


def _what(scope: Scope) -> dict[str, Any]:
    """What it was about: as the receipt says, else as it was asked for in the body, the query or the path."""
    asked: Any = scope.get("asked")
    path: dict[str, Any] = scope.get("path_params", {})
    receipt: Receipt | None = scope.get("receipt")  # type: ignore[assignment]
    found = {
        "account": _text(asked, "account_id") or path.get("account"),
        "reservation": _text(asked, "reservation_id") or path.get("reservation"),
        "transaction": _text(asked, "transaction_id") or path.get("transaction"),
        "task": _text(asked, "task_id"),
        "provider": _text(asked, "provider") or path.get("provider"),
        "operations": len(operations) if (operations := getattr(asked, "operations", None)) else None,
    }
    found = {name: value[:_TEXT_MAX] if isinstance(value, str) else value for name, value in found.items()}
    if receipt is not None:
        found["account"] = receipt.entry.account
        found["reservation"] = receipt.entry.reservation or found["reservation"]
        found["transaction"] = str(receipt.transaction)
        found["replayed"] = receipt.replayed
    return found


def _text(asked: Any, field: str) -> str | None:
    value = getattr(asked, field, None)
    return value if value is not UNSET and isinstance(value, str) else None
