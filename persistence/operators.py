"""What the operator has fenced, as it stands in the log of every process that serves or journals."""

import logging
from collections.abc import Mapping

from app.ledger.alike import alike, says

BY_OPERATOR = "Fenced by the operator: "
"""How the reason of such a fence begins."""

MEANWHILE = " When it is restored, it stays "
"""In the fence of a restore, before the operator's that was put up meanwhile."""

log = logging.getLogger(__name__)


class Announcer:
    """Says each change once: that shards refuse, and that they no longer do for that reason."""

    def __init__(self) -> None:
        self._fenced: set[int] = set()

    def heed(self, fences: Mapping[int, str]) -> None:
        """`fences`: why shards refuse; those of others than the operator are not said here."""
        found = {shard: why for shard, why in fences.items() if why.startswith(BY_OPERATOR)}
        for shards, why in alike({shard: found[shard] for shard in found.keys() - self._fenced}):
            log.warning("%s: %s", says(shards, "refuses", "refuse"), why)
        if opened := sorted(self._fenced - found.keys()):
            log.warning("%s no longer fenced by the operator", says(opened, "is", "are"))
        self._fenced = set(found)
