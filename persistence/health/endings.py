"""How reservations end: what share fails, in all and of each model, and what share is not found at all."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from app.rules import Rule
from persistence.health.mishaps import Count
from persistence.health.seen import Seen, counted
from persistence.pool import Connection

SAMPLE_MAX = 20_000
"""Of the last hour's endings so many are looked at, the latest."""

SUBJECTS_MAX = 20
NO_MODEL = ""


class Endings(NamedTuple):
    """Of one model, among those that are looked at. `failed`: or ran out of time; `expired` are among them.
    `seconds`: the time that all of them span.
    """

    model: str
    ended: int
    failed: int
    expired: int
    seconds: float


# `clock_timestamp()` may be another one for each row, so that no index would serve.
ENDED = """
WITH lately AS (
  SELECT coalesce(model, '') AS model, cancel_cause, settled_at FROM reservations
  WHERE settled_at > statement_timestamp() - interval '1 hour' AND settled_at IS NOT NULL
  ORDER BY settled_at DESC LIMIT $1
)
SELECT model, count(*) AS ended, count(*) FILTER (WHERE cancel_cause IN ('failed', 'expired')) AS failed,
  count(*) FILTER (WHERE cancel_cause = 'expired') AS expired,
  (SELECT CASE WHEN count(*) < $1 THEN 3600 ELSE
     extract(epoch FROM greatest(statement_timestamp() - min(settled_at), interval '1 second')) END
   FROM lately)::float8 AS seconds
FROM lately GROUP BY model ORDER BY model
"""


async def lately(connection: Connection) -> list[Endings]:
    """By model; reservations without one are of `NO_MODEL`."""
    return [Endings(*row) for row in await connection.fetch(ENDED, SAMPLE_MAX)]


def failure_rate(endings: Sequence[Endings], rules: Mapping[str, Rule]) -> Seen:
    """Of all."""
    ended, failed = sum(each.ended for each in endings), sum(each.failed for each in endings)
    return _share(rules["failure_rate"], failed, ended, "reservations that ended within the last hour")


def of_models(
    endings: Sequence[Endings], rules: Mapping[str, Rule], firing: Collection[str] = ()
) -> list[Seen]:
    """Of each model that is judged: those of whose rate an alert fires, which must not be lost sight of, and
    of others the worst, as long as it is no more than `SUBJECTS_MAX`.
    """
    rule = rules["model_failure_rate"]
    known = [each for each in endings if each.model in firing]
    others = [
        each for each in endings if each.model not in (NO_MODEL, *firing) and each.ended >= rule.judged_from
    ]
    others.sort(key=lambda each: (-each.failed / each.ended, each.model))
    return [
        _share(rule, each.failed, each.ended, f"reservations of {each.model} of the last hour", each.model)
        for each in [*known, *others[: max(0, SUBJECTS_MAX - len(known))]]
    ]


def _share(rule: Rule, failed: int, ended: int, of: str, subject: str = "") -> Seen:
    share = round(failed / ended, 4) if ended else 0.0
    says = f"{failed:,} of {ended:,} {of} failed or ran out of time ({share:.1%})."
    if ended < rule.judged_from:
        says += f" It is judged from {rule.judged_from} on."
        return Seen(rule=rule, status="healthy", value=share, message=says, subject=subject)
    return counted(rule, share, says, do="What does the provider say?", subject=subject)


def not_found(missed: Count, endings: Sequence[Endings], rules: Mapping[str, Rule]) -> Seen:
    """Of those who wanted to end a reservation, how many found none."""
    rule = rules["reservation_not_found"]
    ended = sum((each.ended - each.expired) * 3600 / each.seconds for each in endings)
    share = round(missed.number / (missed.number + ended), 4) if missed.number else 0.0
    asked = f"{missed.number + ended:,.0f} requests of the last hour"
    says = f"{missed.number:,} of {asked} found none ({share:.1%})"
    if missed.number < rule.judged_from:
        says += f"; it is judged from {rule.judged_from} on."
        return Seen(rule=rule, status="healthy", value=share, message=says)
    do = "A task id in the place of a reservation's, or the wrong provider? The log has `confirm.not_found`."
    return counted(rule, share, f"{says}, the last of them {missed.last}.", do=do)
