"""The API, called as one calls where money moves: under a key, and again under the same key until it answers.

Now and then it breaks a connection on purpose in the midst of a request, as a phone in a tunnel does: before
all of it was sent, or before the answer came. Repeating it under its key must do it exactly once.
"""

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import msgspec

from app.demo.answers import Refused
from app.demo.connection import Answer, Broken, Connections
from app.demo.errors import CannotTell
from app.demo.traffic import Traffic

IN_FLIGHT_MAX = 64
PATIENCE_SECONDS = 60.0
_ANSWER_SECONDS = 8.0  # the ledger itself gives up after 5
_HANG_UP_SHARE = 0.02
_HANG_UP_SECONDS_MAX = 0.006
_HALF_SHARE = 0.5
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0
_RETRY_AFTER_SECONDS_MAX = 10.0
_CLOSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NO_ANSWER = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

_encode = msgspec.json.encode
_problem = msgspec.json.Decoder(dict[str, object]).decode


class Api:
    """An open client with at most `IN_FLIGHT_MAX` requests at a time.

    Every method raises `CannotTell` where going on makes no sense: a key that is not taken, a ledger that
    has not answered for `PATIENCE_SECONDS`, an answer that is none of Lastro's.

    Args:
        url: Of the ledger, without a path.
        key: With the scopes spend, grant and read.
        traffic: Is told how each request fares.
        rng: For what is left to chance.
    """

    def __init__(self, url: str, key: str, traffic: Traffic, rng: Random) -> None:
        self._url = url
        self._traffic = traffic
        self._rng = rng
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._connections = Connections(url, {"Authorization": f"Bearer {key}"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()

    async def look(self) -> None:
        """Refuse to begin where no ledger answers, or not to our key."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._connections.ask("GET", "/api/credits/balance?accountId=nobody", {}, b"")
        except OSError as error:
            raise CannotTell(f"{self._url} does not answer ({str(error) or 'no answer in time'})") from error
        if answer.status not in _NO_ANSWER:  # it may be about to start
            self._judge(answer)

    async def write(self, method: str, path: str, key: str, body: Mapping[str, object]) -> bytes | Refused:
        """Move something, once, whatever happens on the way. `key` has not been used for anything else."""
        return await self._until_answered(method, path, {"Idempotency-Key": key}, _encode(body))

    async def read(self, path: str, **query: str | int) -> bytes | Refused:
        """Read something. Query names as the API spells them."""
        return await self._until_answered("GET", f"{path}?{urlencode(query)}" if query else path, {}, b"")

    async def _until_answered(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> bytes | Refused:
        began, pause, again = time.monotonic(), _PAUSE_SECONDS, False
        while True:
            hang_up = bool(body) and not again and self._rng.random() < _HANG_UP_SHARE
            async with self._slots:
                answer = await self._once(method, target, headers, body, hang_up=hang_up)
            if answer is not None and answer.status not in _NO_ANSWER:
                self._traffic.done_already += again and b"idempotency-replayed" in answer.headers
                judged = self._judge(answer)
                if isinstance(judged, Refused):
                    self._traffic.refusals[f"{judged.status} {judged.code}"] += 1
                return judged
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise CannotTell(
                    f"{self._url} has not answered {method} {target} for {PATIENCE_SECONDS:g} s "
                    f"({self._traffic.why}); what became of the credits cannot be told"
                )
            self._traffic.repeated += not again
            await asyncio.sleep(max(pause * self._rng.uniform(0.5, 1.0), _retry_after(answer)))
            pause, again = min(2 * pause, _PAUSE_SECONDS_MAX), True

    async def _once(
        self, method: str, target: str, headers: dict[str, str], body: bytes, *, hang_up: bool
    ) -> Answer | None:
        """The answer, or `None` where nobody knows whether the request was done."""
        began, traffic = time.monotonic(), self._traffic
        patience = self._rng.uniform(0, _HANG_UP_SECONDS_MAX) if hang_up else _ANSWER_SECONDS
        half = hang_up and self._rng.random() < _HALF_SHARE
        traffic.sent(began)
        try:
            async with asyncio.timeout(patience):
                answer = await self._connections.ask(method, target, headers, body, half=half)
        except TimeoutError:
            traffic.cut_off() if hang_up else traffic.in_vain("no answer in time")
            return None
        except OSError as error:
            traffic.in_vain("connection broke" if isinstance(error, Broken) else "no connection")
            return None
        if answer.status in _NO_ANSWER:
            traffic.in_vain(f"{answer.status} {_code_of(answer)}".rstrip())
        else:
            now = time.monotonic()
            traffic.answered(now - began, now)
        return answer

    def _judge(self, answer: Answer) -> bytes | Refused:
        if answer.good:
            return answer.body
        code = _code_of(answer)
        if answer.status in _CLOSED:
            raise CannotTell(f"{self._url} does not take the key ({code}): it needs spend, grant and read")
        if not code:
            raise CannotTell(f"{self._url} answers {answer.status}, and not as a ledger does")
        return Refused(answer.status, code)


def _code_of(answer: Answer) -> str:
    """The `code` of a problem; empty where the answer is none of Lastro's."""
    try:
        return str(_problem(answer.body).get("code", ""))
    except msgspec.MsgspecError:
        return ""


def _retry_after(answer: Answer | None) -> float:
    """The seconds that an answer asks us to wait, as far as we are willing."""
    told = answer.headers.get(b"retry-after", b"") if answer else b""
    return min(float(told), _RETRY_AFTER_SECONDS_MAX) if told.isdigit() else 0.0
