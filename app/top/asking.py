"""Asks a ledger how it is: everything in one answer, or only its health while the rest cannot be told."""

from datetime import datetime
from typing import Self, TypeVar

import httpx
import msgspec
from msgspec import Struct

ANSWER_SECONDS = 6.0
"""Health answers within 5 s, whoever is away."""

T = TypeVar("T")

PATH = "/api/credits/monitoring"
_REFUSES = frozenset({400, 401, 403, 404})


class Refused(Exception):
    """This key, or this address, will not be answered later either; the text says why."""


class NoAnswer(Exception):
    """Nothing was told now; the text says why."""


class Accounts(Struct, rename="camel"):
    """How many there are."""

    total: int
    with_balance: int


class Reservations(Struct):
    """How many there are and were."""

    pending: int
    confirmed: int
    cancelled: int
    expired: int


class Moved(Struct):
    """How many transactions of a kind."""

    count: int


class Model(Struct, rename="camel"):
    """What a model was used for."""

    model_id: str
    credits: int
    success_rate: float | None


class Overview(Struct, rename="camel"):
    """How everything stands. `as_of`: until when it is told."""

    as_of: datetime
    accounts: Accounts
    available: int
    held: int
    liability: int
    reservations: Reservations
    transactions: dict[str, Moved]

    @property
    def transactions_ever(self) -> int:
        """Of all kinds."""
        return sum(each.count for each in self.transactions.values())


class Check(Struct):
    """A look at one thing."""

    name: str
    status: str
    message: str


class Health(Struct):
    """All looks, and the worst of them."""

    status: str
    checks: list[Check]

    @property
    def attention(self) -> list[Check]:
        """What is not as it should be, the worst first."""
        found = [each for each in self.checks if each.status != "healthy"]
        return sorted(found, key=lambda each: each.status != "critical")


class Step(Struct):
    """What was spent in a step."""

    deducted: int
    confirmed: int

    @property
    def spent(self) -> int:
        return self.deducted + self.confirmed


class Usage(Struct):
    """A series, and all of as many steps before it."""

    period: str
    series: list[Step]
    previous: Step


class User(Struct, rename="camel"):
    """What an account spent."""

    account_id: str
    spent: int


class TopUsers(Struct):
    """Those that spent most."""

    users: list[User]


class Models(Struct):
    """Most used first."""

    models: list[Model]


class Everything(Struct, rename="camel"):
    """All of it in one answer. `lag_seconds`: how old it was."""

    lag_seconds: float | None
    overview: Overview
    health: Health
    usage: Usage
    top_users: TopUsers
    models: Models


class Look(Struct):
    """What was told at once. `everything` is `None` while only health could be, and `why` says why."""

    health: Health
    everything: Everything | None
    why: str = ""


class _Problem(Struct):
    detail: str = ""


class Asking:
    """One ledger, asked with one key. `close` it in the end."""

    def __init__(self, url: str, key: str, period: str) -> None:
        self._period = period
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def look(self) -> Look:
        """How it is now.

        Raises:
            Refused, NoAnswer
        """
        try:
            told = self._ask("dashboard", period=self._period)
        except NoAnswer as error:
            return Look(_decoded(self._ask("health"), Health), None, str(error))
        everything = _decoded(told, Everything)
        return Look(everything.health, everything)

    def _ask(self, of: str, **more: str) -> bytes:
        try:
            answer = self._client.get(PATH, params={"type": of, **more})
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise NoAnswer(f"no answer ({why}): does `lastro api` run there?") from error
        if answer.is_success:
            return answer.content
        why = f"{answer.status_code}: {_detail(answer)}"
        if answer.status_code in _REFUSES:
            raise Refused(f"{self._client.base_url} answers {why}")
        raise NoAnswer(why)


def _decoded(told: bytes, as_: type[T]) -> T:
    try:
        return msgspec.json.decode(told, type=as_)
    except msgspec.MsgspecError as error:
        raise Refused(f"What answers there is no ledger of this release: {error}") from error


def _detail(answer: httpx.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=_Problem).detail or answer.reason_phrase
    except msgspec.MsgspecError:
        return answer.reason_phrase
