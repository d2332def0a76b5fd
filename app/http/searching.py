"""What can be searched for: reservations and accounts, page by page, as the journal has them."""

from litestar import Controller

from app.http import answers
from app.http.accounts import AccountShown
from app.http.answers import Reservation, Shown
from app.http.bodies import given
from app.http.queries import AccountsQuery, ReservationsQuery
from app.http.routes import reading
from app.http.wire import Answer, LedgerRequest
from app.searching import AccountRow


class Reservations(Shown, kw_only=True):
    """Newest first."""

    data: list[Reservation]
    next_cursor: str | None
    has_more: bool


class FoundAccounts(Shown, kw_only=True):
    """Those whose id begins with what was asked for first, then those that have it further on; each by id."""

    data: list[AccountShown]
    next_cursor: str | None
    has_more: bool


class Searching(Controller):
    """Pages of reservations and accounts."""

    path = "/api/credits"
    tags = ("reading",)

    @reading(
        "/reservations",
        name="reservations",
        users=True,
        query=ReservationsQuery,
        refusals=("invalid_cursor",),
        summary="Reservations, newest first",
    )
    async def reservations(self, request: LedgerRequest) -> Answer[Reservations]:
        """As the journal has them by now, which is a moment behind; one by its id is exact."""
        query = request.asked(ReservationsQuery)
        found = await request.parts.searching.reservations(
            query.filter(request.caller.sees(given(query.account_id))),
            cursor=given(query.cursor),
            limit=query.limit,
        )
        return Answer(
            Reservations(
                data=[answers.reservation(each) for each in found.data],
                next_cursor=found.next_cursor,
                has_more=found.next_cursor is not None,
            )
        )

    @reading(
        "/accounts",
        name="accounts",
        query=AccountsQuery,
        refusals=("invalid_cursor",),
        summary="Accounts by a part of their id",
    )
    async def accounts(self, request: LedgerRequest) -> Answer[FoundAccounts]:
        """As the journal has them by now, which is a moment behind; the balance of one is exact."""
        query = request.asked(AccountsQuery)
        found = await request.parts.searching.accounts(
            query.filter(request.caller.sees(None)), cursor=given(query.cursor), limit=query.limit
        )
        return Answer(
            FoundAccounts(
                data=[_shown(each) for each in found.data],
                next_cursor=found.next_cursor,
                has_more=found.next_cursor is not None,
            )
        )


def _shown(found: AccountRow) -> AccountShown:
    return AccountShown(
        account_id=found.account,
        overdraft_limit=found.overdraft_limit,
        status=found.status,
        low_balance=found.low_balance,
        available=found.available,
        held=found.held,
        version=found.version,
    )
