"""What models are used for, and how well they do."""

from litestar import Controller

from app.dashboard.pages import PageRequest, page
from app.http.queries import Query
from app.http.wire import Answer
from app.monitoring import PERIODS, Period


class ModelsQuery(Query):
    """The window that ends now."""

    period: Period = "day"


class Models(Controller):
    """Volume, credits, estimate against actual, failures and durations."""

    path = "/models"

    @page("/")
    async def models(self, request: PageRequest) -> Answer[bytes]:
        """All models of the window, most used first."""
        period = request.asked(ModelsQuery).period
        use = await request.parts.monitoring.models(period)
        return request.page("models.html", use=use, period=period, periods=PERIODS)
