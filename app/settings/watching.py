from typing import Annotated, Literal

from msgspec import Meta

from app.settings.callers import OfCallers
from app.settings.wording import variable


class OfWatching(OfCallers, frozen=True, kw_only=True, rename=variable):
    """What others are told, and what is logged."""

    events_to_private_addresses: Annotated[
        Literal["no", "yes"],
        Meta(
            description="Whether outgoing events may go to addresses of private networks, and by plain HTTP"
        ),
    ] = "no"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What is logged at least")
    ] = "info"
    log_requests: Annotated[
        Literal["off", "sampled", "all"],
        Meta(
            description="Whether requests have a line in the log: `sampled` writes those of quiet hours all,"
            " and under load so many a second"
        ),
    ] = "sampled"
