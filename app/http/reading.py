"""What can be read: balances and reservations from the engine, transactions and what was from the journal."""

import re
from datetime import datetime

from litestar import Controller
from litestar.params import FromPath
from msgspec import UNSET

from app.http import answers, exports
from app.http.answers import Balance, Page, Reservation, TaskFound, Transaction
from app.http.bodies import given
from app.http.problems import invalid
from app.http.queries import BalanceQuery, TaskQuery, TransactionsQuery
from app.http.routes import reading
from app.http.times import present
from app.http.wire import Answer, LedgerRequest
from app.ledger.errors import ReservationNotFound, TransactionNotFound
from app.ledger.shards import TransactionId

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


class Reading(Controller):
    """Balances, reservations, transactions."""

    path = "/api"
    tags = ("reading",)

    @reading(
        "/credits/balance",
        name="balance",
        users=True,
        query=BalanceQuery,
        refusals=("account_not_found", "ledger_fenced", "journal_backlogged"),
        summary="What an account has now, or had at some time",
    )
    async def balance(self, request: LedgerRequest) -> Answer[Balance]:
        """Exact at Redis' time; `include=reservations` adds those that are open then. `ETag`: the version.

        With `at`: as the last entry of the journal at or before that moment left it.
        """
        query = request.asked(BalanceQuery)
        account = request.caller.sees(given(query.account_id))
        if account is None:
            raise invalid("`accountId`: required.", field="accountId")
        if query.at is not UNSET:
            return await _balance_at(request, account, query.at)
        opened = given(query.include) is not None
        now = await request.ledger.balance(account, reservations=opened)
        tag = b'"%d"' % now.account.version
        if _matches(request.header(b"if-none-match"), tag):
            return Answer(answers.balance(account, now.account), [(b"etag", tag)], 304)
        answer = answers.balance(account, now.account)
        if opened:
            answer.reservations = [answers.reservation(each) for each in now.reservations]
        return Answer(answer, [(b"etag", tag)])

    @reading(
        "/credits/reservations/{reservation:str}",
        name="reservation",
        users=True,
        refusals=("reservation_not_found",),
        summary="A reservation as it stands now",
    )
    async def reservation(self, reservation: FromPath[str], request: LedgerRequest) -> Answer[Reservation]:
        """From Redis, and from the journal what Redis has forgotten."""
        found = await request.ledger.find(reservation_id(reservation))
        if not request.caller.owns(found.account):
            raise ReservationNotFound
        return Answer(answers.reservation(found))

    @reading(
        "/images/by-task-id",
        name="byTaskId",
        users=True,
        query=TaskQuery,
        refusals=("reservation_not_found",),
        summary="The reservation and the resource of a provider's task",
    )
    async def by_task_id(self, request: LedgerRequest) -> Answer[TaskFound]:
        """For those who know only the task."""
        query = request.asked(TaskQuery)
        found = await request.ledger.find(await request.ledger.locate(given(query.provider), query.task_id))
        if not request.caller.owns(found.account):
            raise ReservationNotFound
        return Answer(answers.task_found(query.task_id, found))

    @reading(
        "/credits/transactions",
        name="transactions",
        users=True,
        query=TransactionsQuery,
        refusals=("invalid_cursor",),
        also=exports.DESCRIBED,
        summary="Transactions, newest first",
    )
    async def transactions(self, request: LedgerRequest) -> Answer[Page]:
        """A page of what the journal has by now; go on with `cursor=<nextCursor>` under the same filters.
        One that few transactions pass may bring pages with fewer than `limit`, or none, before the last.

        With `format`: all that the journal has when it begins, as a file. One that breaks off is not whole.
        """
        query = request.asked(TransactionsQuery)
        which = query.filter(request.caller.sees(given(query.account_id)))
        if query.format is not UNSET:
            everything = request.parts.history.export(which, cursor=given(query.cursor))
            return exports.export(everything, query.format, which.account, present(request.ledger.now_ms()))
        found = await request.parts.history.transactions(which, cursor=given(query.cursor), limit=query.limit)
        return Answer(answers.page(found))

    @reading(
        "/credits/transactions/{transaction:str}",
        name="transaction",
        users=True,
        refusals=("transaction_not_found",),
        summary="One transaction",
    )
    async def transaction(self, transaction: FromPath[str], request: LedgerRequest) -> Answer[Transaction]:
        """By the id that an answer gave."""
        named = TransactionId.parse(transaction)
        if named is None:
            raise invalid("`transactionId`: <shard>-<incarnation>-<sequence>, as an answer gave it.")
        found = await request.parts.history.transaction(named)
        if found is None or not request.caller.owns(found.entry.account):
            raise TransactionNotFound
        return Answer(answers.journaled(found))


def reservation_id(text: str) -> str:
    """The id in lower case; another shape than a UUID's is refused."""
    named = text.lower()
    if not _UUID.fullmatch(named):
        raise invalid("`reservationId`: a UUID, as a reserve answered it.", field="reservationId")
    return named


async def own(request: LedgerRequest, reservation: str) -> None:
    """To whoever may touch some accounts only the reservations of others do not exist."""
    if request.restricted and not request.caller.owns((await request.ledger.find(reservation)).account):
        raise ReservationNotFound


async def _balance_at(request: LedgerRequest, account: str, at: datetime) -> Answer[Balance]:
    now = present(request.ledger.now_ms())
    if at > now:
        raise invalid("`at`: it is in the future; a balance is known up to now.", field="at")
    return Answer(answers.balance(account, await request.parts.past.balance(account, at, now)))


def _matches(condition: bytes | None, tag: bytes) -> bool:
    """Whether `If-None-Match` names this version (weak comparison, RFC 9110, 13.1.2)."""
    if condition is None:
        return False
    return any(each.strip().removeprefix(b"W/") in (tag, b"*") for each in condition.split(b","))
