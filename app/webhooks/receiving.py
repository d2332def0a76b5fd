"""What happens to a delivery, from the raw bytes to the ledger. Knows nothing of HTTP.

Verified, read, kept in the inbox, acted on, and what came of it is kept: in this order, so that whoever dies
between two steps leaves a row that says where to go on, and the ledger does nothing twice.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import structlog
from msgspec import Struct

from app.jwks import Jwks, KeysUnavailable
from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerUnavailable, Overloaded
from app.ledger.ledger import Ledger
from app.sparing import Sparing
from app.webhooks import callback, topups
from app.webhooks.configured import STRIPE, Door, Doors
from app.webhooks.event import Delivery, Unreadable, Unverified
from app.webhooks.inbox import OPEN, Inbox, Kept, Payments, Received, RowStatus
from app.webhooks.settling import Settlement, settle
from app.webhooks.stripe import STRIPE as OF_STRIPE

LATER_MAX = 1_000
LATER_BYTES_MAX = 64 * 1024 * 1024
LATER_SECONDS = 1.0
LINES_PER_SECOND = 10

log = structlog.get_logger("lastro.webhooks")


class Path(Struct, frozen=True):
    """What the path of a callback URL says."""

    reservation: str
    token: str


class Rules(Struct, frozen=True):
    """How a delivery becomes credits.

    Args:
        units: By provider, where its payload says how many units were used.
        takes_back: Whether credits are taken back when money goes back.
    """

    units: Mapping[str, str]
    takes_back: bool = False


async def act(
    ledger: Ledger, payments: Payments, rules: Rules, received: Received, *, again: bool = False
) -> Settlement:
    """Do what a delivery asks for, or find that it was done. `again`: although it was refused before.

    Raises:
        Unavailable, BackingUnavailable: Nothing can be told or done now; repeating is safe.
    """
    if received.provider == STRIPE:
        return await topups.act(ledger, payments, received, takes_back=rules.takes_back, again=again)
    return await settle(ledger, rules.units, received.event(), reservation=received.path or None)


class Receiving:
    """The doors' room. One for each process.

    Args:
        ledger, doors, rules, inbox: What it works with.
        of_fal: fal's keys, where its door is on.
    """

    def __init__(
        self, ledger: Ledger, doors: Doors, rules: Rules, inbox: Inbox, of_fal: Jwks | None = None
    ) -> None:
        self.doors = doors
        self.inbox = inbox
        self._ledger = ledger
        self._rules = rules
        self._of_fal = of_fal
        self._later: deque[tuple[Kept | None, Received, Settlement]] = deque()
        self._later_bytes = 0
        self._sparing = Sparing(LINES_PER_SECOND)

    def demand_token(self, provider: str, path: Path | None) -> None:
        """Before the body is read.

        Raises:
            Unverified: The path is not that of a callback URL; it is counted.
        """
        if path is None or not callback.opens(self.doors.masters, provider, path.reservation, path.token):
            self._reject(provider, "the token is not that of the callback URL")
            raise Unverified

    async def deliver(self, provider: str, delivery: Delivery, path: Path | None) -> str:
        """The status of what was delivered: one of the inbox's, or `duplicate`. `path`: its token is right.

        Raises:
            Unverified: Nobody can tell who sent it; it is counted.
            Unreadable: It is genuine, and not understood; it is counted too.
            Unavailable, BackingUnavailable: It must be sent again.
        """
        try:
            await self._verify(provider, delivery, path)
            received = self._read(provider, delivery, path)
            kept = await self._kept(received)
        except (Unverified, Unreadable) as error:
            self._reject(
                provider, f"not understood: {error}" if isinstance(error, Unreadable) else str(error)
            )
            raise
        if kept is not None and kept.status not in OPEN:
            return "duplicate" if received.outcome != "progress" else "verified"
        settlement = await act(self._ledger, self.inbox, self._rules, received)
        _log(received, settlement)
        await self._keep(kept, received, settlement)
        return settlement.status

    async def replay(self, row: int) -> bool:
        """Act again on what stands in a row. `False`: its payload is no longer kept.

        Raises:
            Unavailable, BackingUnavailable: Nothing was done; repeating is safe.
        """
        received = await self.inbox.received(row)
        if received is None:
            return False
        settlement = await act(self._ledger, self.inbox, self._rules, received, again=True)
        _log(received, settlement)
        await self.inbox.settle(row, received, settlement, again=True)
        return True

    async def write_later(self) -> None:
        """Write what was done while PostgreSQL was away, and go on so. Never ends."""
        while True:
            await asyncio.sleep(LATER_SECONDS)
            await self.write_now()

    async def write_now(self) -> None:
        """Write what was done while PostgreSQL was away, as far as it answers."""
        while self._later:
            kept, received, settlement = self._later[0]
            try:
                if kept is None:
                    await self.inbox.keep(received, settlement)
                else:
                    await self.inbox.settle(kept.id, received, settlement)
            except BackingUnavailable:
                return
            except Unreadable as error:
                log.warning("webhook not kept", provider=received.provider, why=str(error))
            self._later.popleft()
            self._later_bytes -= len(received.payload)

    def _reject(self, provider: str, why: str) -> None:
        self.inbox.reject(provider, why)
        if self._sparing.lets_through():
            log.info("webhook rejected", provider=provider, why=why, unsaid=self._sparing.since_last())

    async def _verify(self, provider: str, delivery: Delivery, path: Path | None) -> None:
        now = time.time()
        if provider == STRIPE:
            if path is not None:
                raise Unverified("Stripe has no callback URLs")
            OF_STRIPE.verify(delivery, self.doors.stripe, now)
            return
        door = self.doors.open[provider]
        if provider == "fal":
            await self._verify_by_published_keys(door, delivery, now)
        elif path is None or not door.is_unsigned:
            secrets = [*door.secrets]
            if path is not None and door.by_callback:
                secrets += (callback.secret(master, path.reservation) for master in self.doors.masters)
            door.provider.verify(delivery, secrets, now)

    async def _verify_by_published_keys(self, door: Door, delivery: Delivery, now: float) -> None:
        """By the keys as they are known, and where none fits, once more by those that are published now."""
        assert self._of_fal is not None, "the door is on"
        try:
            keys = await self._of_fal.keys()
            try:
                door.provider.verify(delivery, _public(door, keys), now)
            except Unverified:
                fresh = await self._of_fal.keys(fresh=True)
                if fresh == keys:
                    raise
                door.provider.verify(delivery, _public(door, fresh), now)
        except KeysUnavailable:
            raise LedgerUnavailable(why="fal's keys cannot be fetched") from None

    def _read(self, provider: str, delivery: Delivery, path: Path | None) -> Received:
        if provider == STRIPE:
            return topups.received(delivery)
        event = self.doors.open[provider].provider.read(delivery)
        received = Received.of(event, path.reservation if path else None, delivery.body)
        if not (received.named or received.path or event.outcome == "progress"):
            raise Unreadable("neither a task nor a reservation is named")
        return received

    async def _kept(self, received: Received) -> Kept | None:
        """The row; `None` while PostgreSQL is away, where there is room to keep it until it is back.

        Raises:
            Overloaded: There is none.
        """
        try:
            return await self.inbox.receive(received)
        except BackingUnavailable:
            if self._is_full:
                raise Overloaded(cause="webhooks") from None
            return None

    @property
    def _is_full(self) -> bool:
        return len(self._later) >= LATER_MAX or self._later_bytes >= LATER_BYTES_MAX

    async def _keep(self, kept: Kept | None, received: Received, settlement: Settlement) -> None:
        """What came of it; later, where PostgreSQL is away."""
        if kept is not None:
            try:
                await self.inbox.settle(kept.id, received, settlement)
            except BackingUnavailable:
                if self._is_full:
                    return  # the workers find the row, and that it was done
            else:
                return
        self._later.append((kept, received, settlement))
        self._later_bytes += len(received.payload)


_ALARMING: frozenset[RowStatus] = frozenset({"conflict", "refused"})


def _log(received: Received, settlement: Settlement) -> None:
    say = log.warning if settlement.status in _ALARMING else log.info
    say(
        "webhook",
        provider=received.provider,
        named=received.named,
        outcome=received.outcome,
        status=settlement.status,
        why=settlement.why,
        reservation=settlement.reservation,
    )


def _public(door: Door, keys: list[dict[str, object]]) -> list[str]:
    """Those keys of a JWKS that can prove something (Ed25519, RFC 8037)."""
    found = []
    for each in keys:
        if (each.get("kty"), each.get("crv")) == ("OKP", "Ed25519"):
            with suppress(ValueError):
                door.provider.demand(str(each.get("x")))
                found.append(str(each.get("x")))
    return found
