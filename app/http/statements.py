"""`/api/credits/accounts/{id}/statement`: what an account had, what happened, what it had then."""

from datetime import datetime, timedelta

from litestar import Controller
from litestar.params import FromPath
from msgspec import Struct

from app.http import answers
from app.http.answers import Time, Transaction
from app.http.bodies import given
from app.http.problems import invalid
from app.http.queries import StatementQuery
from app.http.routes import reading
from app.http.shapes import account_id
from app.http.streamed import Pieces, Streamed
from app.http.times import iso, milliseconds, next_millisecond, present
from app.http.wire import JSON, Answer, LedgerRequest, encode
from app.reports import Standing
from app.reports import Statement as Found

DAYS = timedelta(days=30)


class Statement(Struct, kw_only=True, rename={"account_id": "accountId", "since": "from", "until": "to"}):
    """What an account had before its `entries` and after them. The `balance` of each is the running one.

    `from <= at < to`, oldest first. Opening + the legs of all entries = closing.
    """

    account_id: str
    since: Time
    until: Time
    opening: Standing
    entries: list[Transaction]
    closing: Standing


class Statements(Controller):
    """Statements."""

    path = "/api/credits"
    tags = ("reading",)

    @reading(
        "/accounts/{account:str}/statement",
        name="statement",
        users=True,
        query=StatementQuery,
        refusals=("account_not_found", "ledger_fenced", "journal_backlogged"),
        summary="Opening balance, entries with the running balance, closing balance",
    )
    async def statement(self, account: FromPath[str], request: LedgerRequest) -> Answer[Statement]:
        """Of the last 30 days, if nothing else is asked for; of what the journal has when it begins."""
        query = request.asked(StatementQuery)
        named = account_id(account)
        request.caller.touches(named)
        now = present(request.ledger.now_ms())
        since, until = _period(given(query.since), given(query.until), now)
        found = await request.parts.past.statement(named, since, until, now)
        shown = Statement(
            account_id=named,
            since=iso(milliseconds(since)),
            until=iso(milliseconds(until)),
            opening=found.opening,
            entries=[],
            closing=found.closing,
        )
        return Streamed(_pieces(shown, found), JSON)


def _period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """Whole milliseconds, as the times of entries are."""
    try:
        until = now if until is None else next_millisecond(until)
        since = until - DAYS if since is None else next_millisecond(since)
    except OverflowError:
        raise invalid("`from` and `to`: between the years 1 and 9999.") from None
    if since > until:
        raise invalid("`from`: it is later than `to`.", field="from")
    return since, until


async def _pieces(shown: Statement, found: Found) -> Pieces:
    """The text of `shown`, with the entries in their place."""
    before, after = encode(shown).split(b'"entries":[]')
    piece = before + b'"entries":['
    comma = b""
    async for page in found.entries:
        yield piece + comma + b",".join(encode(answers.journaled(each)) for each in page)
        piece, comma = b"", b","
    yield piece + b"]" + after
