"""Applications for tests, many in one process: their routes are registered once, which takes longer than all
else that an application needs to start.

What depends on settings, and what a running application keeps, is each one's own: `test_serving.py`.
"""

from copy import copy
from functools import cache

from litestar import Litestar
from litestar.datastructures import State

from app.main import of_settings, routed
from app.settings import Settings

_routed = cache(routed)


def create_app(settings: Settings) -> Litestar:
    """As `app.main.create_app`."""
    app = copy(_routed())
    app.state = State()
    app.event_emitter = copy(app.event_emitter)
    app.asgi_router = copy(app.asgi_router)
    app.asgi_router.app = app  # starts and ends it, where a server asks
    return of_settings(app, settings)
