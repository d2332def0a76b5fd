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

from redis.asyncio import Redis

from app.cli import main
from app.ledger import keys
from app.ledger.stream import Admitted, Keep, Line, tell
from persistence.journal import Journal, Standing


def without_lanes() -> None:
    """The lane is what tells a repeated call from a new one."""
    execute: Any = Redis.execute_command

    async def anew(self: Redis, *arguments: Any, **options: Any) -> Any:
        if arguments[0] == "EVALSHA" and ":lane:" in str(arguments[3]):
            arguments = (*arguments[:3], keys.lane(0, secrets.token_hex(8)), *arguments[4:])
        return await execute(self, *arguments, **options)

    Redis.execute_command = anew  # type: ignore[method-assign]


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
