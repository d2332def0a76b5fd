"""What fires, what has fired, and from where on."""

from litestar import Controller

from app.alerts import RULE_SECONDS
from app.dashboard.pages import PageRequest, page
from app.http.wire import Answer

ALERTS_SHOWN = 100


class Alerts(Controller):
    """Alerts and their thresholds."""

    path = "/alerts"

    @page("/")
    async def alerts(self, request: PageRequest) -> Answer[bytes]:
        """Those that fire, those that are over, and the rules."""
        alerts = request.parts.alerts
        return request.page(
            "alerts.html",
            firing=await alerts.alerts("firing", limit=ALERTS_SHOWN),
            resolved=await alerts.alerts("resolved", limit=ALERTS_SHOWN),
            rules=list(alerts.rules.values()),
            seconds=RULE_SECONDS,
        )
