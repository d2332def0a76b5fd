"""`create_app(settings)`: the only function that knows Redis, PostgreSQL, Litestar and the ledger at once.

Nothing is opened before the application starts, and starting waits for nobody: while Redis or PostgreSQL are
away, requests are answered 503 and `/health/ready` says why.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx
import structlog
from litestar import Litestar

from app.access import Either
from app.admitting import admitted, keep_admitted
from app.checking import Checks
from app.dashboard.routes import dashboard
from app.http import docs
from app.http.accounts import Accounts
from app.http.alerts import Alerts
from app.http.auth import Authentication
from app.http.batch import Batch
from app.http.cleaning import Cleanup
from app.http.credits import Credits
from app.http.door import Door
from app.http.events import Events
from app.http.handlers import HANDLERS
from app.http.health import Health
from app.http.inbox import Inbox
from app.http.metrics import Metrics
from app.http.models import Models
from app.http.monitoring import Monitoring
from app.http.parts import Parts
from app.http.reading import Reading
from app.http.reconciliation import ReconciliationRuns
from app.http.searching import Searching
from app.http.statements import Statements
from app.http.times import present
from app.http.webhooks import Webhooks
from app.http.wide import Watch
from app.http.wire import Answer, LedgerRequest
from app.jwks import Jwks
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.ledger.replicas import Replicas
from app.limits import Limiter
from app.metrics.exported import Exported
from app.metrics.process import Process
from app.metrics.whole import Whole
from app.origins import origins
from app.settings import Settings
from app.tokens import KEEP_SECONDS, Demands, Tokens
from app.traces import begun
from app.webhooks.configured import Doors, read_units
from app.webhooks.receiving import Receiving, Rules
from persistence import acknowledged, admission
from persistence.alerts.kept import PostgresAlerts
from persistence.alerts.watched import Watched
from persistence.alive import RedisQueues
from persistence.api_keys import PostgresApiKeys
from persistence.backing import PostgresBacking
from persistence.cleaning.cleaning import PostgresCleaning
from persistence.dashboard.ongoing import PostgresOngoing
from persistence.dashboard.operators import PostgresOperators
from persistence.events.managed import PostgresEvents
from persistence.health.mishaps import PostgresMishaps
from persistence.history import PostgresHistory
from persistence.inbox.inbox import PostgresInbox
from persistence.journaled import Journaled
from persistence.journaling import StreamsAndJournal
from persistence.keyring import Keyring
from persistence.monitoring import PostgresMonitoring
from persistence.opened import PostgresOpened
from persistence.past import PostgresPast
from persistence.pool import Pool, pooled
from persistence.rates import PostgresRates
from persistence.reconcile.recorded import PostgresReconciliations
from persistence.searching import PostgresSearching

if TYPE_CHECKING:
    from app.traces.spans import Traces

CLOSE_SECONDS = 0.7
AGAIN_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 0.05

log = structlog.get_logger("lastro.api")


def create_app(settings: Settings) -> Litestar:
    """The API, ready to be served by any ASGI server. Opens nothing."""
    watch, traces = Watch(settings.log_requests), begun()
    app = Litestar(
        [
            Credits,
            Batch,
            Accounts,
            Models,
            Reading,
            Searching,
            Statements,
            ReconciliationRuns,
            Monitoring,
            Cleanup,
            Webhooks,
            Inbox,
            Events,
            Alerts,
            Health,
            Metrics,
            dashboard(),
        ],
        lifespan=[partial(_running, settings, watch, traces)],
        middleware=[Authentication],
        exception_handlers=HANDLERS,
        request_class=LedgerRequest,
        response_class=Answer,
        openapi_config=docs.config(),
        logging_config=None,
    )
    handler = traces.around(app.asgi_handler) if traces else app.asgi_handler
    app.asgi_handler = Door(handler, watch, origins(settings.cors_origins))
    return app


@asynccontextmanager
async def _running(
    settings: Settings, watch: Watch, traces: "Traces | None", app: Litestar
) -> AsyncIterator[None]:
    """All parts, from the start of the application to its end; in the end what waits is finished first."""
    async with AsyncExitStack() as stack:
        if traces:
            stack.push_async_callback(traces.close)
        redis, aside, waiting = (connect(settings.redis_url) for _ in range(3))
        for client in (redis, aside, waiting):
            stack.push_async_callback(client.aclose)
        # Pools of their own, so that slow pages delay no credits, and nothing delays a revocation or a fence.
        pool, pages, exports, guards, kept = [
            await stack.enter_async_context(_pool(settings, of, connections))
            for of, connections in (("ledger", 8), ("pages", 4), ("exports", 2), ("guards", 3), ("inbox", 4))
        ]
        acknowledgement = settings.acknowledgement
        backing = PostgresBacking(pool, partial(admitted, acknowledgement, guards, aside))
        replicas = Replicas(waiting, acknowledgement.replicas) if acknowledgement.replicas else None
        ledger = (traces.ledger if traces else Ledger)(redis, backing, _limits(settings), replicas=replicas)
        keyring, rates = Keyring(guards), PostgresRates(pages, guards)
        users = await _users(settings, stack)
        inbox = PostgresInbox(kept, pages)
        receiving = await _receiving(settings, ledger, inbox, stack)
        reconciliations = PostgresReconciliations(pages)
        journaling, queues = StreamsAndJournal(pages, aside), RedisQueues(settings.queue_url)
        watched, looks = Watched.of(settings), await stack.enter_async_context(_pool(settings, "alerts", 3))
        health = watched.looking(looks, aside, queues)
        alerts, mishaps = PostgresAlerts(pages, watched.rules), PostgresMishaps(pages)
        whole = Whole(
            journaling=journaling,
            queues=queues,
            reconciliations=reconciliations,
            opened=PostgresOpened(pages),
            health=health,
            alerts=alerts,
        )
        app.state.parts = Parts(
            ledger=ledger,
            keys=Either(keyring, users) if users else keyring,
            history=PostgresHistory(pages, exports),
            past=PostgresPast(exports, ledger),
            searching=PostgresSearching(pages),
            receiving=receiving,
            events=PostgresEvents(pages, private=settings.events_to_private_addresses == "yes"),
            reconciliations=reconciliations,
            cleaning=PostgresCleaning(
                exports,
                ledger,
                aside,
                days=settings.reservation_retention_days,
                interval_seconds=settings.cleanup_interval_seconds,
            ),
            acknowledging=Journaled(pool),
            checking=Checks(ledger, aside, pool),
            ongoing=PostgresOngoing(pages),
            operators=PostgresOperators(guards, pages),
            api_keys=PostgresApiKeys(guards),
            journaling=journaling,
            queues=queues,
            metrics=Exported(Process(watch, ledger, settings.queue_max), whole),
            health=health,
            alerts=alerts,
            mishaps=mishaps,
            monitoring=PostgresMonitoring(pages, lambda: present(ledger.now_ms())),
            rates=rates,
            holds_max=settings.holds_max,
            limiter=_limiter(settings, stack),
        )
        stack.push_async_callback(rates.stop)
        await asyncio.gather(keyring.start(), rates.start())
        stack.push_async_callback(keyring.stop)
        await ledger.start()
        stack.push_async_callback(receiving.write_now)
        stack.push_async_callback(inbox.write_rejected_now)
        stack.push_async_callback(mishaps.write_now)
        stack.push_async_callback(ledger.stop)
        watching = watched.watching(looks, aside, health, is_worker=False)
        stack.push_async_callback(watching.stop)
        for work in (
            partial(keep_admitted, ledger, backing, aside, acknowledgement, guards),
            partial(admission.watch, guards, lambda: ledger.terms, ledger.adopt),
            partial(acknowledged.report, guards, ledger.acknowledged),
            rates.watch,
            receiving.write_later,
            inbox.write_rejected,
            mishaps.write,
            watching.watch,
        ):
            stack.push_async_callback(_end, asyncio.create_task(_for_ever(work)))
        yield


async def _receiving(
    settings: Settings, ledger: Ledger, inbox: PostgresInbox, stack: AsyncExitStack
) -> Receiving:
    """What the doors of webhooks do, and the keys of fal where its door is on."""
    doors, of_fal = Doors.of(settings), None
    if doors.fal_jwks:
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        of_fal = Jwks(doors.fal_jwks, client)
    rules = Rules(read_units(settings.webhook_units), settings.webhook_stripe_clawback == "on")
    return Receiving(ledger, doors, rules, inbox, of_fal)


async def _users(settings: Settings, stack: AsyncExitStack) -> Tokens | None:
    """Users' tokens, where any are taken."""
    demands = Demands.of(settings)
    if demands is None:
        return None
    if not demands.jwks:
        return Tokens(demands)
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    return Tokens(demands, Jwks(demands.jwks, client, keep_seconds=KEEP_SECONDS))


def _limiter(settings: Settings, stack: AsyncExitStack) -> Limiter | None:
    """What counts requests, where they are limited."""
    per_second = settings.key_requests_per_second, settings.account_requests_per_second
    if not any(per_second):
        return None
    redis = connect(settings.redis_url)
    stack.push_async_callback(redis.aclose)
    limiter = Limiter(redis, key_per_second=per_second[0], account_per_second=per_second[1])
    stack.push_async_callback(limiter.stop)
    return limiter


def _limits(settings: Settings) -> Limits:
    return Limits(
        queue_max=settings.queue_max,
        batch_operations_max=settings.batch_max,
        request_seconds=settings.request_seconds,
        backlog_max=settings.backlog_max,
        backlog_bytes_max=settings.backlog_bytes_max,
    )


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Go on after an error that nobody has thought of, and say so."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("background work failed; going on")
        await asyncio.sleep(AGAIN_SECONDS)


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel until it has ended: `wait_for`, which asyncpg uses, may swallow a cancellation (Python 3.11)."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)


def _pool(settings: Settings, of: str, connections: int) -> AbstractAsyncContextManager[Pool]:
    return pooled(
        settings.database_url,
        connections_max=connections,
        name=f"lastro api {of}",
        close_seconds=CLOSE_SECONDS,
    )
