"""`assembled(settings)`: the one place that knows Redis, PostgreSQL and the ledger at once.

It makes of the stores what requests need, keeps at work what goes on beside requests, and in the end finishes
what waits before it lets go of the stores.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import httpx
import structlog

from app.access import Either, Keys
from app.admitting import admitted, keep_admitted
from app.checking import Checks
from app.demands import Demands
from app.health import Health
from app.http.parts import Parts
from app.http.times import present
from app.http.wide import Watch
from app.jwks import Jwks
from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.ledger import Ledger
from app.ledger.replicas import Replicas
from app.limits import Limiter
from app.metrics.exported import Exported
from app.metrics.process import Process
from app.metrics.whole import Whole
from app.settings import Settings
from app.stores import Stores
from app.tokens import KEEP_SECONDS, Tokens
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
from persistence.rates import PostgresRates
from persistence.reconcile.recorded import PostgresReconciliations
from persistence.searching import PostgresSearching

if TYPE_CHECKING:
    from app.traces.spans import Traces

AGAIN_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 0.05

log = structlog.get_logger("lastro.api")


@asynccontextmanager
async def assembled(settings: Settings, watch: Watch, traces: "Traces | None") -> AsyncIterator[Parts]:
    """All parts, at work. What the stack was given first ends last."""
    async with AsyncExitStack() as stack:
        if traces:
            stack.push_async_callback(traces.close)
        stores = await Stores.opened(settings, stack)
        acknowledgement = settings.acknowledgement
        backing = PostgresBacking(
            stores.credits, partial(admitted, acknowledgement, stores.guards, stores.aside)
        )
        replicas = Replicas(stores.waiting, acknowledgement.replicas) if acknowledgement.replicas else None
        ledger = (traces.ledger if traces else Ledger)(
            stores.redis, backing, _limits(settings), replicas=replicas
        )
        keyring, rates = Keyring(stores.guards), PostgresRates(stores.pages, stores.guards)
        users = await _users(settings, stack)
        inbox, mishaps = PostgresInbox(stores.inbox, stores.pages), PostgresMishaps(stores.pages)
        receiving = await _receiving(settings, ledger, inbox, stack)
        queues, watched = RedisQueues(settings.queue_url), Watched.of(settings)
        health = watched.looking(stores.alerts, stores.aside, queues)
        parts = _parts(
            settings,
            stores,
            watch,
            ledger=ledger,
            keys=Either(keyring, users) if users else keyring,
            rates=rates,
            receiving=receiving,
            mishaps=mishaps,
            queues=queues,
            health=health,
            alerts=PostgresAlerts(stores.pages, watched.rules),
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
        watching = watched.watching(stores.alerts, stores.aside, health, is_worker=False)
        stack.push_async_callback(watching.stop)
        for work in (
            partial(keep_admitted, ledger, backing, stores.aside, acknowledgement, stores.guards),
            partial(admission.watch, stores.guards, lambda: ledger.terms, ledger.adopt),
            partial(acknowledged.report, stores.guards, ledger.acknowledged),
            rates.watch,
            receiving.write_later,
            inbox.write_rejected,
            mishaps.write,
            watching.watch,
        ):
            stack.push_async_callback(_end, asyncio.create_task(_for_ever(work)))
        yield parts


def _parts(
    settings: Settings,
    stores: Stores,
    watch: Watch,
    *,
    ledger: Ledger,
    keys: Keys,
    rates: PostgresRates,
    receiving: Receiving,
    mishaps: PostgresMishaps,
    queues: RedisQueues,
    health: Health,
    alerts: PostgresAlerts,
    limiter: Limiter | None,
) -> Parts:
    """These, and those that only answer."""
    pages, exports, guards = stores.pages, stores.exports, stores.guards
    journaling, reconciliations = StreamsAndJournal(pages, stores.aside), PostgresReconciliations(pages)
    whole = Whole(
        journaling=journaling,
        queues=queues,
        reconciliations=reconciliations,
        opened=PostgresOpened(pages),
        health=health,
        alerts=alerts,
    )
    return Parts(
        ledger=ledger,
        keys=keys,
        history=PostgresHistory(pages, exports),
        past=PostgresPast(exports, ledger),
        searching=PostgresSearching(pages),
        receiving=receiving,
        events=PostgresEvents(pages, private=settings.events_to_private_addresses == "yes"),
        reconciliations=reconciliations,
        cleaning=PostgresCleaning(
            exports,
            ledger,
            stores.aside,
            days=settings.reservation_retention_days,
            interval_seconds=settings.cleanup_interval_seconds,
        ),
        acknowledging=Journaled(stores.credits),
        checking=Checks(ledger, stores.aside, stores.credits),
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
        limiter=limiter,
    )


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
