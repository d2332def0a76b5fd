"""`/api/credits/cleanup` and `/api/credits/auto-cleanup`: clean-up now, and by itself."""

from math import ceil
from typing import Annotated, Literal

from litestar import Controller
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from app.cleaning import INTERVAL_SECONDS_MIN, Cleaned, Last, Standing
from app.http.bodies import Body, given
from app.http.queries import Query
from app.http.routes import operating, reading
from app.http.times import iso, milliseconds
from app.http.wire import Answer, LedgerRequest

WHAT = "Clean-up is"


class CleanupBody(Body):
    """What to clean up: all, or only what is due."""

    only: Annotated[Literal["expired"], Meta(description="Leave the old ones.")] | UnsetType = UNSET


class CleanupQuery(Query):
    """What to tell."""

    action: Literal["count"]


class AutoCleanupQuery(Query):
    """What to tell."""

    action: Literal["status"]


class AutoCleanupBody(Body, kw_only=True):
    """What shall become of the clean-up that runs by itself."""

    action: Literal["start", "stop", "force"]
    interval_seconds: (
        Annotated[
            int,
            Meta(ge=5, le=604_800, description="300 at least, less only with `force`. Not with `stop`."),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        if self.interval_seconds is UNSET:
            return
        if self.action == "stop":
            raise ValueError("`intervalSeconds`: not with `stop`, which runs no more")
        if self.action == "start" and self.interval_seconds < INTERVAL_SECONDS_MIN:
            raise ValueError(
                f"`intervalSeconds`: {INTERVAL_SECONDS_MIN} at least; `force` takes shorter ones, from 5 on"
            )


class CleanedShown(Struct, rename="camel", omit_defaults=True):
    """What a clean-up did; or that it was `skipped`, because another one ran."""

    expired: int | UnsetType = UNSET
    old: int | UnsetType = UNSET
    duration_ms: int | UnsetType = UNSET
    skipped: bool | UnsetType = UNSET
    error: (
        Annotated[str, Meta(description="Why it failed; the numbers are what it had done.")] | UnsetType
    ) = UNSET


class Counted(Struct):
    """What a clean-up would do now."""

    expired: int
    old: int


class StandingShown(Struct, rename="camel"):
    """How the clean-up that runs by itself stands, for all processes."""

    enabled: bool
    running: Annotated[bool, Meta(description="One runs now, whoever began it.")]
    interval_seconds: int
    last_run_at: str | None
    next_run_in_seconds: Annotated[int | None, Meta(description="`null` while it is stopped.")]
    last_result: CleanedShown | None


class Cleanup(Controller):
    """Reservations that are due or old."""

    path = "/api/credits"
    tags = ("operating",)

    @operating("/cleanup", CleanupBody, name="cleanup", status=200, summary="Clean up now")
    async def cleanup(self, data: JSONBody[CleanupBody], request: LedgerRequest) -> Answer[CleanedShown]:
        """Ends what is due, and drops reservations from the listing that were settled long ago. Those are
        found by id, task and key for ever. Two at once: the second is `skipped`.
        """
        request.caller.concerns_all(WHAT)
        by, whole = request.caller.principal.by, data.only is UNSET
        cleaned = await request.parts.cleaning.run(by, whole=whole)
        return Answer(CleanedShown(skipped=True) if cleaned is None else _cleaned(cleaned))

    @reading(
        "/cleanup",
        name="cleanupCount",
        scope="operate",
        query=CleanupQuery,
        summary="What a clean-up would do",
    )
    async def count(self, request: LedgerRequest) -> Answer[Counted]:
        """Ends and drops nothing."""
        request.asked(CleanupQuery)
        request.caller.concerns_all(WHAT)
        waiting = await request.parts.cleaning.count()
        return Answer(Counted(waiting.expired, waiting.old))

    @operating(
        "/auto-cleanup",
        AutoCleanupBody,
        name="autoCleanup",
        status=200,
        summary="Start, stop or force clean-up",
    )
    async def change(self, data: JSONBody[AutoCleanupBody], request: LedgerRequest) -> Answer[StandingShown]:
        """One state for all processes, which outlives them. `force` cleans up now. What is due is ended every
        few seconds all the same, also while it is stopped.
        """
        request.caller.concerns_all(WHAT)
        cleaning, by, interval = (
            request.parts.cleaning,
            request.caller.principal.by,
            given(data.interval_seconds),
        )
        match data.action:
            case "start":
                await cleaning.start(by, interval)
            case "stop":
                await cleaning.stop(by)
            case "force":
                await cleaning.force(by, interval)
        return Answer(_standing(await cleaning.standing()))

    @reading(
        "/auto-cleanup",
        name="autoCleanupStatus",
        scope="operate",
        query=AutoCleanupQuery,
        summary="How the clean-up that runs by itself stands",
    )
    async def standing(self, request: LedgerRequest) -> Answer[StandingShown]:
        """It is on from the beginning, until somebody stops it."""
        request.asked(AutoCleanupQuery)
        request.caller.concerns_all(WHAT)
        return Answer(_standing(await request.parts.cleaning.standing()))


def _cleaned(cleaned: Cleaned, error: str | None = None) -> CleanedShown:
    return CleanedShown(
        cleaned.expired, cleaned.old, cleaned.duration_ms, error=UNSET if error is None else error
    )


def _standing(standing: Standing) -> StandingShown:
    last: Last | None = standing.last
    seconds = standing.next_run_seconds
    return StandingShown(
        enabled=standing.enabled,
        running=standing.running,
        interval_seconds=standing.interval_seconds,
        last_run_at=None if last is None else iso(milliseconds(last.started_at)),
        next_run_in_seconds=None if seconds is None else ceil(seconds),
        last_result=None if last is None else _cleaned(last.cleaned, last.error),
    )
