"""Limits as HTTP tells them: 429 with `Retry-After`, and in every answer how much is left
(draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` and `RateLimit`, lists of structured fields).
"""

from collections.abc import Sequence

from litestar.types import Scope

from app.http.problems import Headers, Problem
from app.limits import Left, Limiter


async def count_caller(limiter: Limiter, scope: Scope, by: str) -> None:
    """Count a request on whoever makes it.

    Raises:
        Problem: There were too many (`rate_limited`).
        LedgerError: Nobody can tell.
    """
    if limiter.key is not None:
        (left,) = await limiter.count(limiter.key, [by])
        _note(scope, left)
        if left.wait_us:
            raise _refusal(left)


async def count_accounts(limiter: Limiter, scope: Scope, accounts: Sequence[str]) -> list[Problem | None]:
    """Count an operation on each of the accounts in turn; the refusals of those that are too many.

    Raises:
        LedgerError: Nobody can tell.
    """
    if limiter.account is None or not accounts:
        return [None] * len(accounts)
    found = await limiter.count(limiter.account, accounts)
    _note(scope, min(found, key=lambda left: left.requests))
    return [_refusal(left) if left.wait_us else None for left in found]


def headers(scope: Scope) -> Headers:
    """What an answer says about the limits that its request was counted on."""
    lefts: Sequence[Left] = scope.get("limits", ())  # type: ignore[assignment]
    if not lefts:
        return ()
    policies = ", ".join(f'"{left.quota.of}";q={left.quota.per_second};w=1' for left in lefts)
    limits = ", ".join(f'"{left.quota.of}";r={left.requests};t={left.whole_in_seconds}' for left in lefts)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", limits.encode())]


def _note(scope: Scope, left: Left) -> None:
    scope.setdefault("limits", []).append(left)  # type: ignore[typeddict-item]


def _refusal(left: Left) -> Problem:
    facts = {"what": left.quota.of, "limit": left.quota.per_second}
    return Problem("rate_limited", facts, [(b"retry-after", b"%d" % left.wait_seconds)])
