"""`python -m tests.chaos.storm.sabotage RULE api ...`: `lastro` with a rule broken, to see the storm see it.

| rule | what is broken |
|---|---|
| lanes | every sending of a call has a lane of its own, so that a repeated call is carried out again |
| trim | a worker trims the stream before it commits what it has read |
"""

import secrets
import sys
from collections.abc import Sequence
from typing import Any

from app.cli import main
from app.ledger import batcher, keys
from app.ledger.stream import Admitted, Keep, Line, tell
from persistence.journal import Journal, Standing


def without_lanes() -> None:
    """The lane is what tells a repeated call from a new one."""

    class Keys:
        meta = staticmethod(keys.meta)

        @staticmethod
        def lane(shard: int, _process: str) -> str:
            return keys.lane(shard, secrets.token_hex(8))

    batcher.keys = Keys  # type: ignore[assignment]


def trim_before_commit() -> None:
    """The stream is the only other place where an entry is."""
    commit: Any = Journal._commit

    async def trim_and_commit(
        self: Journal, admitted: Admitted, standing: Standing, found: Sequence[Line]
    ) -> Standing:
        size = standing.size + sum(len(line.text) + len(line.notes or b"") for line in found)
        await tell(self._redis, admitted, found[-1].sequence, size, Keep(0, 0))
        done: Standing = await commit(self, admitted, standing, found)
        return done

    Journal._commit = trim_and_commit  # type: ignore[method-assign]


BROKEN = {"lanes": without_lanes, "trim": trim_before_commit}


if __name__ == "__main__":
    BROKEN[sys.argv.pop(1)]()
    main()
