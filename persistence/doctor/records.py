"""What PostgreSQL keeps about the ledger: fences, losses, orphans, proofs, comparisons, backups."""

from datetime import UTC, datetime, timedelta

import msgspec

from app.ledger.alike import alike, named, together
from app.ledger.findings import Finding
from app.ledger.judgement import UNTIL_ADOPTED
from persistence.doctor.words import ago
from persistence.fences import fences
from persistence.months import AHEAD_NOW, LOCKS
from persistence.pool import Connection, Pool

REASONS_MAX = 8
RECENT = timedelta(days=1)
RECONCILED_WITHIN = timedelta(hours=1)
VERIFIED_WITHIN = timedelta(days=7)


async def fenced(pool: Pool) -> Finding:
    """Which shards refuse, why, and by whose word."""
    found = await fences(pool)
    if not found:
        return Finding("fence", "ok", "no shard is fenced")
    whys = {each.shard: f"by {each.by}: {each.why}" for each in found}
    reasons = [f"{named(which)}, {why}" for which, why in alike(whys)]
    more = f" And {len(reasons) - REASONS_MAX:,} more reasons." if len(reasons) > REASONS_MAX else ""
    says = " ".join(f"S{each[1:]}" for each in reasons[:REASONS_MAX]) + more
    others = [each for each in found if each.by != "operator"]
    if not others:
        return Finding("fence", "warning", says, "`lastro unfence --reason ...` when the work is done.")
    do = "docs/operating.md, Fences."
    if any(UNTIL_ADOPTED in each.why for each in others):
        return Finding("fence", "critical", says, f"Run `lastro reconcile --adopt`: see {do}")
    do = f"Run `lastro restore`, or bring the right Redis back: see {do}"
    return Finding("fence", "critical", says, do)


LOST = """
SELECT count(*) AS reports, count(*) FILTER (WHERE reported_at > $1) AS recent, max(reported_at) AS last
FROM acknowledged_lost
"""


async def lost(connection: Connection) -> Finding:
    """What was answered and is gone."""
    row = await connection.fetchrow(LOST, datetime.now(UTC) - RECENT)
    assert row is not None
    if row["recent"]:
        return Finding(
            "acknowledged_lost",
            "critical",
            f"{row['recent']} reports within a day: Redis was replaced by one without what it had answered.",
            "SELECT * FROM acknowledged_lost: who was told of these operations has to be told again.",
        )
    if row["reports"]:
        return Finding("acknowledged_lost", "ok", f"{row['reports']} reports, the last {ago(row['last'])}")
    return Finding("acknowledged_lost", "ok", "nothing acknowledged was lost")


ORPHANS = "SELECT count(*) FROM orphans"


async def orphans(connection: Connection) -> Finding:
    """What was salvaged and nobody has settled."""
    count = await connection.fetchval(ORPHANS)
    if not count:
        return Finding("orphans", "ok", "no entry was salvaged")
    says = f"{count} entries of a Redis that were not the journal's are kept in the table orphans."
    do = "Look whether anybody has to be made good; then delete what is settled."
    return Finding("orphans", "warning", says, do)


VERIFIED = """
SELECT sum(greatest(0, cursor - verified_seq)) AS left, min(verified_at) AS last,
       min(coalesce(verified_at, created_at)) AS since
FROM shards, ledger WHERE cursor > 0
"""


async def verified(connection: Connection) -> Finding:
    """How much of the journal nobody has verified."""
    row = await connection.fetchrow(VERIFIED)
    assert row is not None
    left = int(row["left"] or 0)
    if not left or datetime.now(UTC) - row["since"] < VERIFIED_WITHIN:
        return Finding("verified", "ok", f"{left:,} entries since the chain was last verified")
    says = f"{left:,} entries of the journal are not verified; last verified: {ago(row['last'])}."
    return Finding("verified", "warning", says, "Run `lastro verify`.")


RECONCILED = """
SELECT status, finished_at, why, position -> 'unknown' AS unknown
FROM reconciliations WHERE finished_at IS NOT NULL
ORDER BY started_at DESC LIMIT 1
"""

RUNNING = "SELECT min(started_at) FROM reconciliations WHERE finished_at IS NULL"


async def reconciled(connection: Connection) -> Finding:
    """How the last comparison of the two stores that came to an end did so."""
    last = await connection.fetchrow(RECONCILED)
    begun: datetime | None = await connection.fetchval(RUNNING)
    is_slow = begun is not None and datetime.now(UTC) - begun > RECONCILED_WITHIN
    running = f"one is running, begun {ago(begun)}" if begun else ""
    at_work = "Are cron and workers at work?"
    run = "Run `lastro reconcile`."
    if last is None:
        says = f"The two stores were never compared to the end{running and f'; {running}'}."
        if begun and not is_slow:
            return Finding("reconciliation", "ok", says)
        return Finding("reconciliation", "warning", says, f"{at_work} {run}" if begun else run)
    says = f"{last['status']}, {ago(last['finished_at'])}"
    if last["status"] == "drift":
        do = "`lastro reconcile` names it; `lastro reconcile --repair` sets the wrong side right."
        return Finding("reconciliation", "critical", says, do)
    if last["status"] == "unknown":
        whys = together(msgspec.json.decode(last["unknown"] or "[]", type=list[str]))
        why = " ".join(whys) or last["why"] or "it could not be told"
        do = "Open the shards first; the next comparison then comes by itself." if "fenced" in why else run
        return Finding("reconciliation", "warning", f"{says}: {why}", do)
    if is_slow or datetime.now(UTC) - last["finished_at"] > RECONCILED_WITHIN:
        says += running and f"; {running}"
        return Finding("reconciliation", "warning", says, f"{at_work} {run}")
    return Finding("reconciliation", "ok", says)


async def months_ahead(connection: Connection) -> Finding:
    """Whether the journal has tables for the time to come."""
    if await connection.fetchval(AHEAD_NOW):
        return Finding("months", "ok", "the journal has a table for the next month")
    says = "The journal has no table for the next month: whoever writes its first entry makes it meanwhile."
    return Finding("months", "warning", says, "Are cron and workers at work? A worker makes it every hour.")


STATEMENTS_MIN = 40
"""So many statements over all months may be under way at once, at least."""


async def locks(connection: Connection) -> Finding:
    """Whether PostgreSQL has room for the locks of statements over all months of the journal."""
    row = await connection.fetchrow(LOCKS)
    if row is None:
        return Finding("locks", "ok", "the journal has no table yet")
    months, wanted, each, room = row["months"], row["wanted"], row["each"], row["room"]
    at_once = room // wanted
    if at_once >= STATEMENTS_MIN:
        return Finding("locks", "ok", f"room for {at_once:,} statements at once over {months} months")
    says = (
        f"A statement over the {months} months of the journal takes {wanted} locks, and PostgreSQL has room "
        f"for {room:,}: when more than {at_once} are under way, some fail."
    )
    enough = 2 ** (each * STATEMENTS_MIN // max(1, at_once)).bit_length()
    do = f"Set max_locks_per_transaction = {enough}, and restart PostgreSQL."
    return Finding("locks", "warning", says, do)


BACKED_UP = """
SELECT started_at, finished_at, path, error FROM backups
WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1
"""


async def backed_up(connection: Connection, every_seconds: int) -> Finding:
    """How old the last backup is, or why there is none. `every_seconds`: so often one is to be taken."""
    row = await connection.fetchrow(BACKED_UP)
    if row is None:
        says = "There is no backup of the journal that was taken by itself."
        return Finding("backup", "warning", says, "Set LASTRO_BACKUP_DIR for the workers.")
    if row["error"]:
        says = f"The last one failed, {ago(row['finished_at'])}: {row['error']}"
        do = "Mend that: it is tried again every ten minutes. Until then, `lastro export` elsewhere."
        return Finding("backup", "critical", says, do)
    says = f"{row['path']}, begun {ago(row['started_at'])}"
    if datetime.now(UTC) - row["started_at"] > 2 * timedelta(seconds=every_seconds):
        do = "Is LASTRO_BACKUP_DIR set, and is a worker with that folder at work? Its log says more."
        return Finding("backup", "warning", f"{says}: the next one is overdue.", do)
    return Finding("backup", "ok", says)
