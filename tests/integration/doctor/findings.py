"""What the doctor finds, but for what is so in every test."""

from persistence.doctor import Bounds, examine

BY_HAND = {"workers", "cron"}
"""Nobody works in these tests."""

HEALTH = """
UPDATE ledger SET born = true, created_at = now();
UPDATE shards
SET verified_seq = cursor, verified_at = now(), fence = NULL, fenced_at = NULL, fenced_by = NULL;
TRUNCATE acknowledged_lost, orphans, reconciliations, backups;
INSERT INTO reconciliations (finished_at, status, by) VALUES (now(), 'equal', 'test');
INSERT INTO backups (finished_at, path, entries) VALUES (now(), 'there', 8);
DELETE FROM migrations WHERE name LIKE '9999%';
SELECT make_journal_months_ahead(3);
"""


async def found(database, redis, redis_url, **options) -> dict[str, tuple[str, str, str]]:
    """Every finding that is not ok, but for nobody being at work and how the test's servers are set up."""
    bounds = options.pop("bounds", Bounds())
    findings = await examine(database, redis, redis_url, bounds, **options)
    assert len({each.check for each in findings}) == len(findings)
    of_the_tests = BY_HAND | {"redis_persistence", "postgres"}
    return {
        each.check: (each.level, each.says, each.do)
        for each in findings
        if each.level != "ok" and each.check not in of_the_tests
    }
