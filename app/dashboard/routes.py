"""Every page of the dashboard, in the order in which they are named on each of them."""

from typing import NamedTuple

from litestar import Controller, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from app.dashboard.accounts import Accounts
from app.dashboard.alerts import Alerts
from app.dashboard.entering import Entering
from app.dashboard.files import static
from app.dashboard.gate import Gate
from app.dashboard.journal import Journal
from app.dashboard.keys import ApiKeyPages
from app.dashboard.mistakes import AS_PAGES
from app.dashboard.models import Models
from app.dashboard.overview import Overview
from app.dashboard.pages import PageRequest, page
from app.dashboard.reconciliation import Reconciliations
from app.dashboard.reservations import Reservations
from app.dashboard.webhooks import Webhooks
from app.http.auth import OPEN
from app.http.wire import Answer


class Page(NamedTuple):
    """A page by its name, where it is, and what answers there and below it."""

    title: str
    path: str
    handler: type[Controller]


PAGES = [
    Page("Overview", "/dashboard", Overview),
    Page("Reservations", "/dashboard/reservations", Reservations),
    Page("Accounts", "/dashboard/accounts", Accounts),
    Page("Models", "/dashboard/models", Models),
    Page("Journal", "/dashboard/journal", Journal),
    Page("Reconciliation", "/dashboard/reconciliation", Reconciliations),
    Page("Webhooks", "/dashboard/webhooks", Webhooks),
    Page("Alerts", "/dashboard/alerts", Alerts),
]


@page("/{rest:path}")
async def nowhere(rest: FromPath[str]) -> Answer[bytes]:
    """What is no page."""
    raise NotFoundException(rest)


def dashboard() -> Router:
    """All of it, to be plugged into the application. The gate asks who comes, in the place of API keys."""
    return Router(
        "/dashboard",
        route_handlers=[
            get("/static/{digest:str}/{name:str}", opt={"visitors": True, "asks_nobody": True})(static),
            Entering,
            nowhere,
            ApiKeyPages,
            *(each.handler for each in PAGES),
        ],
        opt={"scope": OPEN, "pages": PAGES},
        middleware=[Gate],
        exception_handlers=AS_PAGES,
        request_class=PageRequest,
        response_class=Answer,
        include_in_schema=False,
    )
