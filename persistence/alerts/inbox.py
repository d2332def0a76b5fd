"""What the inbox of webhooks has to tell people: what nobody could verify, and what needs a decision."""

from collections.abc import Collection, Mapping

from asyncpg import Record

from app.rules import Rule
from persistence.health.seen import Seen, counted
from persistence.pool import Connection

SUBJECTS_MAX = 20
"""Of a kind, at a time; the inbox has all."""

REJECTED = """
SELECT coalesce(sum(deliveries), 0)::bigint AS number,
  (array_agg(provider ORDER BY last_at DESC))[1] AS provider,
  (array_agg(why ORDER BY last_at DESC))[1] AS why
FROM webhook_inbox WHERE status = 'rejected' AND last_at > statement_timestamp() - interval '1 hour'
"""


async def rejections(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """Deliveries that could not be verified. A row counts an hour by the clock, so that it may be as old as
    two.
    """
    rule = rules["webhook_rejections"]
    row = await connection.fetchrow(REJECTED)
    assert row is not None
    if not row["number"]:
        return counted(rule, 0, "No webhook was rejected within the last hour.")
    says = f"{row['number']:,} webhooks were rejected, the last of {row['provider']}: {row['why']}."
    do = "Has a secret been changed? See the inbox, and docs/webhooks.md. Forgeries look the same."
    return counted(rule, row["number"], says, do=do)


# What nobody knew is settled a day after it came. $3: those of which an alert fires, which must not be lost
# sight of; others find room beside them.
UNSETTLED = """
WITH lately AS NOT MATERIALIZED (
  SELECT id, status, provider, task, reservation, account, why FROM webhook_inbox
  WHERE status = $1 AND coalesce(settled_at, last_at) > statement_timestamp() - interval '1 day'
)
SELECT * FROM lately WHERE id = ANY($3::bigint[])
UNION ALL
(SELECT * FROM lately WHERE id <> ALL($3::bigint[]) ORDER BY id DESC LIMIT greatest(0, $2 - cardinality($3)))
"""

NAMED = "inbox:"

_DO = {
    "conflict": "No credits moved. Find out what is right, then settle by hand; docs/webhooks.md, The inbox.",
    "refused": "The work may be done and nobody has paid: mend what refuses it, then replay the delivery.",
    "unknown": "Somebody works for nobody: was the task never bound, or is it another ledger's?",
}


async def unsettled(
    connection: Connection, rules: Mapping[str, Rule], firing: Collection[tuple[str, str]]
) -> list[Seen]:
    """Of the last day: conflicts, refusals, and tasks that nobody knew; no more than `SUBJECTS_MAX` of each.

    Args:
        connection: To read with.
        rules: All of them.
        firing: What fires, by rule and subject.
    """
    seen = []
    for status, do in _DO.items():
        rule = rules[f"webhook_{status}"]
        known = [int(subject.removeprefix(NAMED)) for name, subject in firing if name == rule.name]
        rows = await connection.fetch(UNSETTLED, status, SUBJECTS_MAX, known)
        seen += [_seen(rule, row, do) for row in rows]
    return seen


def _seen(rule: Rule, row: Record, do: str) -> Seen:
    named = [f"{name} {row[name]}" for name in ("task", "reservation", "account") if row[name] is not None]
    about = f", {', '.join(named)}" if named else ""
    says = f"Inbox {row['id']}, {row['provider']}{about}: {row['why'] or row['status']}. {do}"
    return Seen(rule=rule, status="warning", message=says, subject=f"{NAMED}{row['id']}")
