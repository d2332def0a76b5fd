from typing import Annotated

from app.settings.watching import OfWatching
from app.settings.wording import left_out, variable


class OfAlerting(OfWatching, frozen=True, kw_only=True, rename=variable):
    """What is watched, and who is told when it goes wrong."""

    thresholds: Annotated[
        str,
        left_out(
            "docs/alerts.md",
            "From where on what is watched is bad: `<rule>=<warning>:<critical>`, comma list",
        ),
    ] = ""
    alert_urls: Annotated[
        str,
        left_out(
            "nobody is told",
            "Who is told of alerts: URLs of [Apprise](https://github.com/caronc/apprise), comma list;"
            " they are secrets",
        ),
    ] = ""
    heartbeat_url: Annotated[
        str,
        left_out(
            "none",
            "What is asked for each minute while nothing is critical, for whoever watches the watchmen;"
            " a secret",
        ),
    ] = ""
