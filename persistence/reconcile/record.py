"""A run as its row has it: where it goes on, what was found, and what could not be told."""

import logging
from collections.abc import Sequence
from typing import Literal, Self

import msgspec

from persistence.pool import Connection
from persistence.reconcile.drift import Drift, as_jsonb
from persistence.reconcile.position import Position, decode_position

DRIFT_MAX = 1_000
WHY_MAX = 20

Status = Literal["running", "equal", "drift", "unknown"]

log = logging.getLogger(__name__)


class Record:
    """Of a run that was begun. What it says is known once it is loaded, and kept by `_keep` alone.

    Args:
        connection: Outside any transaction.
        name: The id that `begin` gave.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name
        self.position: Position
        self.accounts = 0
        self.drift: list[Drift] = []
        self.shards = 0
        self._ledger = ""

    LEDGER = "SELECT id::text AS id, shards FROM ledger WHERE born"

    STANDING = "SELECT accounts, drift, position FROM reconciliations WHERE id::text = $1"

    async def load(self) -> Self:
        """Read where it stands."""
        ledger = await self._connection.fetchrow(self.LEDGER)
        row = await self._connection.fetchrow(self.STANDING, self.name)
        assert ledger is not None, "a run of a ledger that was not born"
        assert row is not None, "a run that was not begun"
        self._ledger, self.shards = ledger["id"], ledger["shards"]
        self.accounts = row["accounts"]
        self.drift = msgspec.json.decode(row["drift"], type=list[Drift])
        self.position = decode_position(row["position"])
        self.position.cursors += [0] * (self.shards - len(self.position.cursors))
        return self

    @property
    def is_at_end(self) -> bool:
        return self.position.phase == "end"

    @property
    def status(self) -> Status:
        if not self.is_at_end:
            return "running"
        if self.position.drifts:
            return "drift"
        return "unknown" if self.position.unknown else "equal"

    KEEP = """
    UPDATE reconciliations SET accounts = $2, drift = $3::jsonb, position = $4::jsonb,
      status = $5, why = $6, finished_at = CASE WHEN $5 = 'running' THEN NULL ELSE now() END
    WHERE id::text = $1
    """

    async def _keep(self) -> None:
        told = list(self.position.unknown)
        if self.position.drifts > len(self.drift):
            told.append(
                f"{self.position.drifts} differences in all, of which the first {DRIFT_MAX} are kept."
            )
        await self._connection.execute(
            self.KEEP,
            self.name,
            self.accounts,
            as_jsonb(self.drift),
            as_jsonb(self.position),
            self.status,
            " ".join(told) or None,
        )

    def _add(self, drift: Sequence[Drift]) -> None:
        """What was found, each difference once."""
        known = {(each.account_id, each.field) for each in self.drift}
        new = [each for each in drift if (each.account_id, each.field) not in known]
        self.position.drifts += len(new)
        self.drift.extend(new[: DRIFT_MAX - len(self.drift)])

    def _note(self, why: str) -> None:
        """What could not be told, each sentence once."""
        why, unknown = why.replace("\x00", "\ufffd"), self.position.unknown
        if why not in unknown and len(unknown) < WHY_MAX:
            unknown.append(why)
            log.warning("reconciliation %s: %s", self.name, why)
