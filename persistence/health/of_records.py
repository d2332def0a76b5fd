"""What PostgreSQL tells about the ledger: how reservations and clean-ups end, debts, the last comparison."""

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from app.ledger.findings import Finding, Level
from app.rules import Rule
from persistence.doctor import records, server
from persistence.health.seen import Seen, counted, found
from persistence.pool import Connection

NAMED_MAX = 3
MISSED_MAX = 3
"""So many clean-ups that did not come, or failed one after the other, are critical."""


async def of_server(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """PostgreSQL itself."""
    findings = [await server.version(connection), await server.migrations(connection)]
    return found(rules["postgres"], findings)


EXPIRED = """
WITH lately AS NOT MATERIALIZED (
  SELECT id, settled_at FROM reservations
  WHERE cancel_cause = 'expired' AND settled_at > statement_timestamp() - interval '1 hour'
)
SELECT count(*) AS number, array(SELECT id::text FROM lately ORDER BY settled_at DESC LIMIT 3) AS named
FROM lately
"""


async def expired(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """Reservations that ran out of time."""
    rule = rules["expired_last_hour"]
    row = await connection.fetchrow(EXPIRED)
    assert row is not None
    number, named = row["number"], ", ".join(row["named"])
    if not number:
        return counted(rule, 0, "No reservation ran out of time within the last hour.")
    do = "Are callbacks coming, and is `ttlSeconds` long enough? A late confirm is possible for a day."
    says = f"{number:,} ran out of time within the last hour, the last of them {named}."
    return counted(rule, number, says, do=do)


# In the table, where a constraint forbids it, and in Redis as the last comparison has seen it.
BELOW = """
SELECT account FROM accounts WHERE available < -overdraft_limit
UNION
SELECT a.account FROM (
  SELECT drift FROM reconciliations WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
) AS last, jsonb_to_recordset(last.drift) AS d ("accountId" text, field text, redis text)
JOIN accounts a ON a.account = d."accountId"
WHERE d.field = 'available' AND d.redis ~ '^-?[0-9]{1,18}$' AND d.redis::bigint < -a.overdraft_limit
ORDER BY account
"""


async def below_floor(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """Accounts that owe more than they may."""
    rule = rules["below_floor"]
    accounts = [row["account"] for row in await connection.fetch(BELOW)]
    if not accounts:
        return counted(rule, 0, "No account is below its floor.")
    says = f"{len(accounts):,} below their floor: {_some(accounts)}."
    return counted(rule, len(accounts), says, do="Somebody wrote past the ledger: run `lastro reconcile`.")


DRIFT = """
SELECT drift FROM reconciliations WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
"""


async def reconciliation(connection: Connection, rules: Mapping[str, Rule]) -> Seen:
    """The last comparison, and whom it found apart. Its value: how many differences."""
    finding = await records.reconciled(connection)
    drift = await connection.fetchval(DRIFT)
    apart = msgspec.json.decode(drift or "[]", type=list[dict[str, object]])
    accounts = list(dict.fromkeys(str(each["accountId"]) for each in apart))
    if accounts:
        says = f"{finding.says}: {len(accounts):,} accounts are apart, {_some(accounts)}."
        finding = finding._replace(says=says)
    return found(rules["reconciliation"], [finding], value=len(apart))


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED_MAX]) + (", ..." if len(names) > NAMED_MAX else "")


CLEANED = """
SELECT enabled, changed_by, last.started_at IS NULL AS never, last.error, failed.number AS failed,
  coalesce(interval_seconds, $1::integer) AS every,
  clock_timestamp() - coalesce(last.started_at, changed_at, ledger.created_at) AS ago
FROM cleanup CROSS JOIN ledger
LEFT JOIN LATERAL (
  SELECT started_at, error FROM cleanups WHERE finished_at IS NOT NULL ORDER BY started_at DESC LIMIT 1
) AS last ON true
CROSS JOIN LATERAL (
  SELECT count(*) AS number FROM cleanups WHERE error IS NOT NULL AND started_at > coalesce(
    (SELECT max(started_at) FROM cleanups WHERE finished_at IS NOT NULL AND error IS NULL), '-infinity'
  )
) AS failed
"""


async def cleanup(connection: Connection, rules: Mapping[str, Rule], interval_seconds: int) -> Seen:
    """Whether it runs by itself. Its value: how many have failed since the last that did not."""
    row = await connection.fetchrow(CLEANED, interval_seconds)
    if row is None:
        return counted(rules["cleanup"], 0, "No ledger is born.")
    finding = Finding("cleanup", "ok", "Clean-up runs by itself.")
    if row["failed"]:
        level: Level = "critical" if row["failed"] >= MISSED_MAX else "warning"
        says = f"{row['failed']} failed one after the other: {row['error']}"
        finding = Finding("cleanup", level, says, "Mend that: it is tried again by itself.")
    elif not row["enabled"]:
        says = f"Clean-up was stopped by {row['changed_by'] or 'somebody'}."
        do = 'Start it: `POST /api/credits/auto-cleanup {"action": "start"}`.'
        finding = Finding("cleanup", "warning", says, do)
    elif row["ago"] > (MISSED_MAX + 1) * timedelta(seconds=row["every"]):
        says = f"No clean-up has come to an end for {row['ago'] // timedelta(minutes=1)} minutes."
        finding = Finding("cleanup", "critical", says, "Are workers and cron at work?")
    return found(rules["cleanup"], [finding], value=row["failed"])
