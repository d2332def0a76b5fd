"""`create_app(settings)`: the routes, and behind them the parts that these settings ask for.

Nothing is opened before the application starts, and starting waits for nobody: while Redis or PostgreSQL are
away, requests are answered 503 and `/health/ready` says why.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from litestar import Litestar

from app.assembling import assembled
from app.dashboard.attempts import Attempts
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
from app.http.reading import Reading
from app.http.reconciliation import ReconciliationRuns
from app.http.searching import Searching
from app.http.statements import Statements
from app.http.webhooks import Webhooks
from app.http.wide import Watch
from app.http.wire import Answer, LedgerRequest
from app.origins import origins
from app.settings import Settings
from app.traces import begun


def create_app(settings: Settings) -> Litestar:
    """The API, ready to be served by any ASGI server. Opens nothing."""
    return of_settings(routed(), settings)


def routed() -> Litestar:
    """All routes, with nothing behind them yet: which there are depends on no setting."""
    return Litestar(
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
        lifespan=[_running],
        middleware=[Authentication],
        exception_handlers=HANDLERS,
        request_class=LedgerRequest,
        response_class=Answer,
        openapi_config=docs.config(),
        logging_config=None,
    )


def of_settings(app: Litestar, settings: Settings) -> Litestar:
    """These routes, with the door that the settings ask for and, once it runs, their parts. All that an
    application keeps is in its `state`, its parts and its door: the routes keep nothing.
    """
    watch, traces = Watch(settings.log_requests), begun()
    app.state.assembled, app.state.attempts = partial(assembled, settings, watch, traces), Attempts()
    handler = traces.around(app.asgi_handler) if traces else app.asgi_handler
    app.asgi_handler = Door(handler, watch, origins(settings.cors_origins))
    return app


@asynccontextmanager
async def _running(app: Litestar) -> AsyncIterator[None]:
    async with app.state.assembled() as app.state.parts:
        yield
