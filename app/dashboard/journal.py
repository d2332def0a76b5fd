"""The way from Redis to the journal: streams, cursors, and who does the work."""

from litestar import Controller
from msgspec import UNSET, UnsetType

from app.dashboard.doing import Did, Doing
from app.dashboard.pages import PageRequest, form, once, page, see
from app.dashboard.showing import link
from app.http.problems import Problem
from app.http.queries import Query
from app.http.shapes import Key
from app.http.wire import Answer
from app.journaling import ShardJournaled
from app.ledger.errors import LedgerUnavailable
from app.operators import Asked
from app.queues import AtWork, FailedJob, QueuesUnavailable
from app.reports import TransactionFilter

HERE, JOB = "/dashboard/journal", "/dashboard/journal/job"
SHARDS_SHOWN = 64
ENTRIES_SHOWN = 10


class JobQuery(Query):
    """A failed job."""

    integers = Did.integers

    id: Key
    did: int | UnsetType = UNSET


class RetryForm(Doing):
    """Put a failed job in again."""

    id: Key


class Journal(Controller):
    """Streams, queues, workers and failed jobs."""

    path = "/journal"

    @page("/")
    async def journal(self, request: PageRequest) -> Answer[bytes]:
        """All of it at one time; what does not answer is said to be away."""
        shards = await request.parts.journaling.shards()
        entries = await request.parts.history.transactions(TransactionFilter(), limit=ENTRIES_SHOWN)
        try:
            work, away = await request.parts.queues.look(), ""
        except QueuesUnavailable as error:
            work, away = None, str(error)
        return request.page(
            "journal.html",
            shards=sorted(shards, key=_needs, reverse=True)[:SHARDS_SHOWN],
            every=shards,
            work=work,
            away=away,
            entries=entries.data,
        )

    @page("/job")
    async def job(self, request: PageRequest) -> Answer[bytes]:
        """A failed job with its error, and trying it again."""
        asked = request.asked(JobQuery)
        found = _named(await _work(request), asked.id)
        actions = await request.actions(about=f"job {asked.id}")
        if found is None and not actions:
            raise Problem("not_found", {})
        return request.page(
            "job.html", job=found, id=asked.id, actions=actions, did=asked.did or None, once=once()
        )

    @form("/job")
    async def retry(self, request: PageRequest) -> Answer[bytes]:
        """Put it in again: a worker takes it within moments."""
        given = request.sent(RetryForm)

        async def do() -> str:
            try:
                again = await request.parts.queues.retry(given.id)
            except QueuesUnavailable as error:
                raise LedgerUnavailable(why=f"the queues' Redis does not answer: {error}") from None
            return "put into its queue again" if again else "it was no longer among the failed"

        by = request.visitor.known.by
        asked = Asked(key=given.once, act="retry", by=by, reason=given.reason, about=f"job {given.id}")
        return see(link(JOB, id=given.id, did=await request.by_hand(asked, do)))


async def _work(request: PageRequest) -> AtWork:
    try:
        return await request.parts.queues.look()
    except QueuesUnavailable as error:
        raise LedgerUnavailable(why=f"the queues' Redis does not answer: {error}") from None


def _named(work: AtWork, job: str) -> FailedJob | None:
    return next((each for each in work.failed if each.id == job), None)


def _needs(shard: ShardJournaled) -> tuple[bool, int, int]:
    """What needs somebody stands first: fences, then what is far behind; then by number."""
    return shard.fence is not None, shard.behind or 0, -shard.shard
