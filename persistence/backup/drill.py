"""A backup is worth what a restore of it is worth: all the way, on servers that are thrown away."""

from collections.abc import Callable
from pathlib import Path

from app.ledger.connection import connect as connect_redis
from app.ledger.judgement import Standing
from persistence.backup.importing import import_backup
from persistence.backup.reading import Backup
from persistence.migrate import migrate
from persistence.pool import Connection
from persistence.reconcile.position import begin
from persistence.reconcile.run import Run
from persistence.restore import Restored, restore
from persistence.session import connect
from persistence.verify import Head, verify

ANSWER_SECONDS = 30.0
REWRITTEN_NAMED_MAX = 16

Step = Callable[[str], None]
Count = Callable[[int], None]


class Willing:
    """Lets a restore have its way. `seen`: told how many more accounts and holds are loaded."""

    def __init__(self, seen: Count) -> None:
        self._seen = seen
        self._counts = False

    async def claimed(self, standings: list[Standing]) -> bool:
        """It is what the servers are for."""
        return bool(standings)

    def step(self, name: str, total: int = 0) -> None:  # noqa: ARG002 - the protocol's
        self._counts = name == "load"

    def advance(self, by: int) -> None:
        if self._counts:
            self._seen(by)


async def drill(database_url: str, redis_url: str, backup: Backup, *, step: Step, seen: Count) -> list[str]:
    """Import, verify, restore and reconcile. Returns what was found wrong, in words.

    Args:
        database_url: Of an empty PostgreSQL that nobody else uses.
        redis_url: Of an empty Redis likewise.
        backup: Read twice: checked first.
        step: Told which step begins: `check`, `import`, `verify`, `restore`, `reconcile`.
        seen: Told how many more rows, accounts or reservations a step is through with.

    Raises:
        BackupRefused: The backup is no good.
    """
    step("check")
    backup.check(seen)
    await migrate(database_url)
    connection = await connect(database_url, name="lastro drill")
    try:
        async with connect_redis(redis_url, answer_seconds=ANSWER_SECONDS) as redis:
            step("import")
            await import_backup(connection, redis, backup, seen=seen)
            step("verify")
            found = await _verified(connection, backup, seen)
            step("restore")
            restored = await restore(database_url, redis_url, salvage=Path("/dev/null"), watch=Willing(seen))
            found += faults(restored)
            step("reconcile")
            run = await Run(connection, redis, await begin(connection, "drill", full=True)).load()
            while not run.is_at_end:
                before = run.accounts
                await run.step()
                seen(run.accounts - before)
    finally:
        await connection.close()
    found += [
        f"{each.account_id}, {each.field}: Redis {each.redis}, journal {each.journal}" for each in run.drift
    ]
    return found + run.position.unknown


async def _verified(connection: Connection, backup: Backup, seen: Count) -> list[str]:
    manifest = backup.manifest
    heads = [Head(each.shard, each.cursor, bytes.fromhex(each.head)) for each in manifest.shards]
    verdict = await verify(connection, since=1, heads=heads, ledger=manifest.ledger, seen=seen)
    return [each.why for each in verdict.findings]


def faults(restored: Restored | None) -> list[str]:
    """What a restore found wrong, in words, also where it has made it good."""
    if restored is None:
        return []
    wrong = [
        f"PostgreSQL's tables said of {account} what its entries do not; they were written again"
        for account in restored.rewritten[:REWRITTEN_NAMED_MAX]
    ]
    more = len(restored.rewritten) - REWRITTEN_NAMED_MAX
    wrong += [f"and of {more:,} more accounts"] if more > 0 else []
    wrong += [f"{each.account_id}, {each.field}: {each.redis}, not {each.journal}" for each in restored.drift]
    return wrong + [f"shard {shard} refuses: {why}" for shard, why in sorted(restored.fences.items())]
