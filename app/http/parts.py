"""What `main` plugs into the doors, and the one who asks."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec import UNSET, UnsetType

from app.access import Keys, Principal
from app.alerts import Alerts
from app.api_keys import ApiKeys
from app.cleaning import Cleaning
from app.events import Events
from app.health import Health
from app.http.problems import Problem, invalid
from app.http.room import Room
from app.journaling import Journaling
from app.ledger.ledger import Ledger
from app.ledger.shards import TransactionId
from app.limits import Limiter
from app.mishaps import Mishaps
from app.monitoring import Monitoring
from app.ongoing import Ongoing
from app.operators import Operators
from app.queues import Queues
from app.rates import Rates
from app.reconciliations import Reconciliations
from app.reports import History, Past
from app.searching import Searching
from app.webhooks.receiving import Receiving


class Acknowledging(Protocol):
    """Waits for PostgreSQL to have an entry (`Lastro-Ack: journaled`)."""

    async def journaled(self, transaction: TransactionId, nonce: str) -> bool:
        """Whether the journal has this very entry, waited for at most 5 s; `False` too when it is away."""
        ...


class Standing(NamedTuple):
    """What fails: `redis`, `admission`, `postgres`, `clock`, `acknowledged_lost`, `shard:<n>`; and whether
    one shard at least `serves`.
    """

    serves: bool
    failing: list[str]


class Checking(Protocol):
    """Looks at what the service stands on, for `/health/ready`."""

    async def standing(self) -> Standing:
        """Answers within 2 s."""
        ...


class Metrics(Protocol):
    """What there is to count (`GET /metrics`)."""

    async def text(self) -> bytes:
        """As Prometheus reads it. Answers within seconds, whoever is away."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Parts:
    """All that a request may need."""

    ledger: Ledger
    keys: Keys
    history: History
    past: Past
    searching: Searching
    acknowledging: Acknowledging
    checking: Checking
    receiving: Receiving
    events: Events
    reconciliations: Reconciliations
    cleaning: Cleaning
    ongoing: Ongoing
    operators: Operators
    api_keys: ApiKeys
    journaling: Journaling
    queues: Queues
    metrics: Metrics
    health: Health
    alerts: Alerts
    mishaps: Mishaps
    monitoring: Monitoring
    rates: Rates
    holds_max: int = 10_000
    limiter: Limiter | None = None
    room: Room = field(default_factory=Room, init=False)


_WHAT = {"key": "key", "user": "token"}


class Caller:
    """Who asks, in one request.

    `headers` has lower-case names; of repeated ones the last. `waits`: for the journal, before the answer.
    """

    __slots__ = ("headers", "principal", "waits")

    def __init__(self, principal: Principal, headers: dict[bytes, bytes]) -> None:
        self.principal = principal
        self.headers = headers
        self.waits = False

    def sees(self, account: str | None) -> str | None:
        """The account asked about, `None` for all; whoever may touch one account only sees that one.

        Raises:
            Problem: Another one was asked about (`forbidden`), or none by whoever has several.
        """
        if account is None:
            return self._only()
        self.touches(account)
        return account

    def _only(self) -> str | None:
        accounts = self.principal.accounts
        if accounts is None:
            return None
        if len(accounts) > 1:
            raise invalid(f"`accountId`: one of {', '.join(sorted(accounts))}.", field="accountId")
        return next(iter(accounts))

    def owns(self, account: str) -> bool:
        """Whether an account is among those that the caller may touch; what is another's does not exist."""
        return self.principal.accounts is None or account in self.principal.accounts

    def concerns_all(self, what: str) -> None:
        """Refuse a key of one account what is not one account's; `what`: that it is everybody's."""
        if self.principal.accounts is not None:
            raise Problem("forbidden", {"why": f"{what} everybody's; this key is for one account only."})

    def touches(self, account: str | UnsetType) -> None:
        """Refuse an account that the caller may not touch."""
        if account is not UNSET and not self.owns(account):
            raise Problem(
                "forbidden", {"why": f"This {_WHAT[self.principal.kind]} may touch its own account only."}
            )
