"""The audit of what people did by hand: noted before it is done, and again when it is.

A process that is killed in between leaves a row that says `asked`. The same form sent again is the same row,
and the ledger, asked under the form's key, does it once; so that such a row is ended by whoever repeats it.
"""

from typing import Literal

from app.operators import Action, ActionFilter, Asked, Begun, OtherAction
from persistence.conditions import Conditions
from persistence.pool import Pool, answering


class PostgresActions:
    """`app.operators.Actions`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # The second time only finds the row, which has to be touched to; and not that of something else. The
    # reason may have been erased since.
    BEGIN = """
    INSERT INTO operator_actions AS there (key, act, by, reason, account, reservation, about, detail)
    VALUES ($1, $2, $3, $4, $5, $6::text::uuid, $7, $8)
    ON CONFLICT (key) DO UPDATE SET key = excluded.key
    WHERE (there.act, there.by, coalesce(there.reason, excluded.reason), there.account, there.reservation,
        there.about, there.detail)
      IS NOT DISTINCT FROM (excluded.act, excluded.by, excluded.reason, excluded.account,
        excluded.reservation, excluded.about, excluded.detail)
    RETURNING id, outcome <> 'asked' AS ended
    """

    async def begin(self, asked: Asked) -> Begun:
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(
                self.BEGIN,
                asked.key,
                asked.act,
                asked.by,
                asked.reason,
                asked.account,
                asked.reservation,
                asked.about,
                asked.detail,
            )
        if row is None:
            raise OtherAction
        return Begun(row["id"], row["ended"])

    END = """
    UPDATE operator_actions SET outcome = $2, told = $3, ended_at = now() WHERE id = $1 AND outcome = 'asked'
    """

    async def end(self, action: int, outcome: Literal["done", "refused"], told: str) -> None:
        async with answering(self._pool) as connection:
            await connection.execute(self.END, action, outcome, told)

    LISTED = """
    SELECT id, at, act, by, reason, account, reservation::text, about, detail, outcome, told
    FROM operator_actions WHERE {conditions} ORDER BY id DESC LIMIT $1
    """

    async def listed(self, which: ActionFilter, limit: int) -> list[Action]:
        conditions = Conditions()
        if which.account is not None:
            conditions.add("account = {}", which.account)
        if which.reservation is not None:
            conditions.add("reservation = {}::text::uuid", which.reservation)
        if which.about is not None:
            conditions.add("about = {}", which.about)
        statement = self.LISTED.format(conditions=conditions.numbered(2))
        async with answering(self._pool) as connection:
            return [
                Action(**dict(row)) for row in await connection.fetch(statement, limit, *conditions.values)
            ]
