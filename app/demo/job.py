"""One job from the order to its end: reserve, work, and whatever comes then."""

import asyncio
from enum import Enum
from random import Random

from app.demo.account import Account
from app.demo.answers import Receipt, Refused, Reservation
from app.demo.catalogue import Order
from app.demo.tally import End, Tally

TTL_SECONDS = 120
SILENT_TTL_SECONDS = (1, 3)
_WORK_SECONDS = (0.1, 1.5)  # what takes a provider minutes
_LOOK_SECONDS = 0.1
_LOOKS_MAX = 50
_FUNDS = ("insufficient_credits", "credits_held")


class Fate(Enum):
    """What comes after the work, and of how many jobs in a hundred."""

    BOTH = 44
    """Frontend and webhook confirm at the same instant, one by the reservation, one by the task."""
    WEBHOOK = 20
    IN_PART = 12
    """It has cost less than was set aside."""
    FAILED = 8
    CANCELLED = 6
    RACE = 4
    """The customer cancels at the instant at which the frontend confirms."""
    SILENT = 5
    """Nobody ever answers."""
    LATE = 1
    """The webhook comes when the time is over."""


class Job:
    """`name` is unique in its account."""

    def __init__(self, account: Account, order: Order, name: str, rng: Random, tally: Tally) -> None:
        self._account = account
        self._order = order
        self._name = name
        self._rng = rng
        self._tally = tally
        self._task = f"{account.name}-{name}"
        self._ttl = TTL_SECONDS

    async def play(self) -> End:
        """All of it. Returns how it ended, which the tally knows by then."""
        self._tally.started += 1
        end = await (self._buy() if self._order.product.at_once else self._have_it_made())
        self._tally.ended[end] += 1
        return end

    async def _buy(self) -> End:
        order = self._order
        body = {"amount": order.credits, "modelId": order.product.model, "metadata": order.metadata}
        answer = await self._account.ask(
            "deduct", f"{self._name}-deduct", {"accountId": self._account.name, **body}
        )
        return self._end_of(answer, End.SUCCEEDED)

    async def _have_it_made(self) -> End:
        (fate,) = self._rng.choices([*Fate], [each.value for each in Fate])
        if fate is Fate.IN_PART and self._order.credits == 1:
            fate = Fate.BOTH
        if fate in (Fate.SILENT, Fate.LATE):
            self._ttl = self._rng.randint(*SILENT_TTL_SECONDS)
        task_known = self._rng.random() < 0.5  # noqa: PLR2004 - half of the providers name it only later
        answer = await self._reserve({"taskId": self._task} if task_known else {})
        if isinstance(answer, Refused) or answer.reservation is None:
            return self._end_of(answer, End.AMISS)
        reservation = answer.reservation.id
        if not task_known:
            body = {"taskId": self._task, "provider": self._order.product.provider}
            bound = await self._account.ask(f"reservations/{reservation}/task", f"{self._name}-bind", body)
            if isinstance(bound, Refused):
                return self._end_of(bound, End.AMISS)
        await self._work(fate)
        return await self._come(fate, reservation)

    async def _reserve(self, task: dict[str, str]) -> Receipt | Refused:
        order = self._order
        body = {
            "accountId": self._account.name,
            "amount": order.credits,
            "ttlSeconds": self._ttl,
            "modelId": order.product.model,
            "metadata": order.metadata,
        }
        if task:
            body |= {**task, "provider": order.product.provider}
        return await self._account.ask("reserve", f"{self._name}-reserve", body)

    async def _work(self, fate: Fate) -> None:
        silent = fate in (Fate.SILENT, Fate.LATE)
        await asyncio.sleep(self._ttl if silent else self._rng.uniform(*_WORK_SECONDS))

    async def _come(self, fate: Fate, reservation: str) -> End:
        match fate:
            case Fate.BOTH:
                return await self._confirm_twice(reservation)
            case Fate.WEBHOOK:
                return self._end_of(await self._ask("confirm", "webhook", self._by_task), End.SUCCEEDED)
            case Fate.IN_PART:
                amount = self._rng.randint(1, self._order.credits - 1)
                part = {**self._by_task, "amount": amount}
                return self._end_of(await self._ask("confirm", "webhook", part), End.IN_PART)
            case Fate.FAILED:
                failure = {**self._by_task, "cause": "failed", "reason": "the provider gave up"}
                return self._end_of(await self._ask("cancel", "webhook", failure), End.FAILED)
            case Fate.CANCELLED:
                named = {"reservationId": reservation}
                return self._end_of(await self._ask("cancel", "customer", named), End.CANCELLED)
            case Fate.RACE:
                return await self._race(reservation)
            case Fate.SILENT:
                return await self._wait_for_the_end(reservation)
            case Fate.LATE:
                await self._wait_for_the_end(reservation)
                return self._end_of(await self._ask("confirm", "late", self._by_task), End.AMISS)

    async def _confirm_twice(self, reservation: str) -> End:
        """Seed 000: both are told the same, and one charge was made."""
        with self._account.moving():
            frontend, webhook = await asyncio.gather(
                self._post("confirm", "frontend", {"reservationId": reservation}),
                self._post("confirm", "webhook", self._by_task),
            )
            self._account.enter(frontend if isinstance(frontend, Receipt) else webhook)
        if _told(frontend) != _told(webhook):
            self._tally.find(
                f"{self._task} was confirmed twice: the frontend was told {_told(frontend)}, "
                f"the webhook {_told(webhook)}"
            )
        else:
            self._tally.twice += isinstance(frontend, Receipt)
        return self._end_of(frontend, End.SUCCEEDED)

    async def _race(self, reservation: str) -> End:
        """One wins, and the other is told which ending won."""
        with self._account.moving():
            verbs = self._rng.sample(("confirm", "cancel"), 2)
            named = {"reservationId": reservation}
            answers = await asyncio.gather(*(self._post(verb, "customer", named) for verb in verbs))
            told = dict(zip(verbs, map(self._account.enter, answers), strict=True))
            confirmed, cancelled = told["confirm"], told["cancel"]
        match confirmed, cancelled:
            case (Receipt(), Refused(code="reservation_confirmed")):
                self._tally.races += 1
                return End.SUCCEEDED
            case (Refused(code="reservation_cancelled"), Receipt()):
                self._tally.races += 1
                return End.CANCELLED
            case (Refused(code="reservation_expired"), Refused(code="reservation_expired")):
                return End.EXPIRED
        self._tally.find(f"{self._task}: confirm was told {_told(confirmed)}, cancel {_told(cancelled)}")
        return End.AMISS

    async def _wait_for_the_end(self, reservation: str) -> End:
        """The ledger's clock decides, and ours may go a little faster."""
        found: Reservation | Refused | None = None
        for _ in range(_LOOKS_MAX):
            found = await self._account.reservation(reservation)
            if isinstance(found, Refused) or found.status != "pending":
                break
            await asyncio.sleep(_LOOK_SECONDS)
        if isinstance(found, Reservation) and found.cancel_cause == "expired":
            return End.EXPIRED
        self._tally.find(f"{self._task} should have run out of time, and is {found}")
        return End.AMISS

    @property
    def _by_task(self) -> dict[str, str]:
        """All that a webhook knows."""
        return {"taskId": self._task, "provider": self._order.product.provider}

    async def _post(self, verb: str, who: str, body: dict[str, str]) -> Receipt | Refused:
        return await self._account.post(verb, f"{self._name}-{verb}-{who}", body)

    async def _ask(self, verb: str, who: str, body: dict[str, object] | dict[str, str]) -> Receipt | Refused:
        return await self._account.ask(verb, f"{self._name}-{verb}-{who}", body)

    def _end_of(self, answer: Receipt | Refused, end: End) -> End:
        """That end where something was done; else what the refusal makes of it."""
        if isinstance(answer, Receipt):
            return end
        if answer.code in _FUNDS:
            return End.TURNED_AWAY
        if answer.code == "reservation_expired":
            return End.EXPIRED
        self._tally.find(f"{self._task} was refused: {answer.status} {answer.code}")
        return End.AMISS


def _told(answer: Receipt | Refused) -> str:
    return answer.transaction.id if isinstance(answer, Receipt) else answer.code
