"""How everything stands."""

from litestar import Controller

from app.dashboard.pages import PageRequest, page
from app.http.wire import Answer
from app.searching import ReservationFilter


class Overview(Controller):
    """The first page."""

    path = "/"

    @page("/")
    async def overview(self, request: PageRequest) -> Answer[bytes]:
        """What there is, what goes on, and what needs somebody."""
        standing = await request.parts.checking.standing()
        latest = await request.parts.searching.reservations(ReservationFilter(status="pending"), limit=10)
        return request.page("overview.html", standing=standing, latest=latest.data)
