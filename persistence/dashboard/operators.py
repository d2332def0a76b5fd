"""Both halves of `app.operators.Operators`."""

from persistence.dashboard.actions import PostgresActions
from persistence.dashboard.sessions import PostgresSessions
from persistence.pool import Pool


class PostgresOperators:
    """`guards`: for sessions, so that slow pages delay no revocation; `pages`: for the audit."""

    def __init__(self, guards: Pool, pages: Pool) -> None:
        self.sessions = PostgresSessions(guards)
        self.actions = PostgresActions(pages)
