"""Programs that stand beside `lastro api`, each by its name: `python -m tests.bench.serve stock`.

| program | what it is |
|---|---|
| `instant` | `create_app` with a ledger that answers at once from memory: the same handler, auth and shapes |
| `stock` | a plain Litestar handler that does nothing: `data: Struct`, a guard, a Struct back |
| `bare` | an ASGI application without a framework, which answers what was encoded beforehand |
| `unbatched` | `create_app` with a ledger that calls our script once for each request |
| `locking` | `create_app` with a ledger that locks rows in PostgreSQL (`SELECT ... FOR UPDATE`) |
| `guarded` | `create_app` with a ledger of one guarded UPDATE in PostgreSQL, which notes an entry |
| `guarded-bare` | the same without an entry |
| `...-relaxed` | these three with `synchronous_commit = off`: a crash may lose what was acknowledged last |
| `granian` | `create_app` as it is, under granian |

Settings come from `LASTRO_*`, as for `lastro api`, and so do the server's options (`app/cli.py`).
"""

import sys
from collections.abc import Mapping
from functools import partial

import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp

from app import logs
from app.http.protocol import BoundedProtocol
from app.main import create_app
from app.settings import Settings
from tests.bench.bare import BareApp
from tests.bench.guarded import Bare, Guarded
from tests.bench.in_postgres import InPostgres
from tests.bench.locking import LockingLedger
from tests.bench.standins import InstantLedger, plug
from tests.bench.stock import create_stock_app
from tests.bench.unbatched import UnbatchedLedger

IN_POSTGRES: Mapping[str, type[InPostgres]] = {
    "locking": LockingLedger,
    "guarded": Guarded,
    "guarded-bare": Bare,
}
RELAXED = "-relaxed"


def app(name: str, settings: Settings) -> ASGIApp:
    """The application of that name."""
    match name:
        case "instant":
            return plug(create_app(settings), InstantLedger.open)
        case "stock":
            return create_stock_app()
        case "bare":
            return BareApp()
        case "unbatched":
            return plug(create_app(settings), partial(UnbatchedLedger.open, settings))
    ledger = IN_POSTGRES[name.removesuffix(RELAXED)]
    durable = not name.endswith(RELAXED)
    return plug(create_app(settings), partial(ledger.open, settings.database_url, durable=durable))


def granian_app() -> Litestar:
    """What granian's workers load."""
    return create_app(Settings.read())


def serve_with_granian(settings: Settings) -> None:
    from granian import Granian  # noqa: PLC0415 - measured where it is installed, needed by nothing else
    from granian.constants import Interfaces, Loops  # noqa: PLC0415

    Granian(
        "tests.bench.serve:granian_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        factory=True,
        log_enabled=False,
    ).serve()


def serve_with_uvicorn(name: str, settings: Settings) -> None:
    config = uvicorn.Config(
        app(name, settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    its_settings = Settings.read()
    logs.set_up(its_settings.log_level)
    if sys.argv[1] == "granian":
        serve_with_granian(its_settings)
    else:
        serve_with_uvicorn(sys.argv[1], its_settings)
