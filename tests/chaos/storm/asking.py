"""Asks until the answer is definite, as one asks where money moves: again, under the same key, of anybody.

Each sending goes to one of the APIs by chance. Some hang up in the midst of a request. Whoever loses patience
leaves the record unknown: most look later (by asking again), a few never do.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from random import Random
from urllib.parse import urlencode

import msgspec

from app.demo.connection import Answer, Connections
from tests.chaos.storm.answers import fits
from tests.chaos.storm.records import Applied, Balance, Book, Look, Record, Refused

ANSWER_SECONDS = 3.0
GIVE_UP_SHARE = 0.03
NEVER_SHARE = 0.3
HANG_UP_SHARE = 0.01
_HANG_UP_SECONDS_MAX = 0.01
_PAUSE_SECONDS = 0.03
_PAUSE_SECONDS_MAX = 0.4
_NO_ANSWER = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

_applied = msgspec.json.Decoder(Applied).decode
_refused = msgspec.json.Decoder(Refused).decode
_balance = msgspec.json.Decoder(Balance).decode


class Asking:
    """Connections to all APIs. `close` them in the end."""

    def __init__(self, urls: Sequence[str], token: str, book: Book, rng: Random) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._apis = [Connections(url, headers) for url in urls]
        self._book = book
        self._rng = rng

    def close(self) -> None:
        """Hang up."""
        for api in self._apis:
            api.close()

    async def ask(self, record: Record, *, stubborn: bool = False) -> None:
        """Send it until its outcome is known; without a key, once. `stubborn`: never give up early."""
        ends = time.monotonic() + self._book.patience_seconds
        pause = _PAUSE_SECONDS
        while not await self._once(record):
            if not record.key or self._book.findings.count:  # once something is broken, nobody has to wait
                return
            if self._is_excused(record) or (not stubborn and self._rng.random() < GIVE_UP_SHARE):
                self._give_up(record)
                return
            if time.monotonic() > ends:
                waited = f"{self._book.patience_seconds:g} s"
                self._book.findings.add(f"no definite answer within {waited}: {record.story()}")
                return
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    async def look(self, account: str) -> None:
        """Read a balance, once; no answer is none."""
        known, asked_at = self._book.known(account), time.monotonic()
        target = f"/api/credits/balance?{urlencode({'accountId': account})}"
        answer = await self._send("GET", target, {}, b"")
        if not isinstance(answer, Answer) or answer.status in _NO_ANSWER:
            self._suspect(answer, f"balance of {account}")
            return
        if not answer.good:
            self._book.findings.add(f"the balance of {account} is answered {answer.status} {answer.body!r}")
            return
        told = _balance(answer.body)
        self._book.heard(told)
        self._book.looks.append(Look(account, known, told.version, told.available, told.held, asked_at))

    def _give_up(self, record: Record) -> None:
        if self._rng.random() >= NEVER_SHARE:
            self._book.later.append(record)

    def _is_excused(self, record: Record) -> bool:
        return any(record.tries[-1].endswith(code) for code in self._book.excused)

    async def _once(self, record: Record) -> bool:
        """Whether there is an outcome now."""
        headers = {"Idempotency-Key": record.key} if record.key else {}
        body = msgspec.json.encode(record.body)
        hang_up = not record.tries and self._rng.random() < HANG_UP_SHARE
        answer = await self._send("POST", f"/api/credits/{record.verb}", headers, body, hang_up=hang_up)
        if not isinstance(answer, Answer):
            record.unanswered(answer)
            return False
        if answer.status in _NO_ANSWER:
            record.unanswered(f"{answer.status} {_code(answer)}")
            self._suspect(answer, record.story())
            return False
        replayed = " replayed" if b"idempotency-replayed" in answer.headers else ""
        record.answered(f"{answer.status}{replayed} {answer.body[:400].decode(errors='replace')}")
        self._judge(record, answer)
        return True

    def _judge(self, record: Record, answer: Answer) -> None:
        try:
            outcome = _applied(answer.body) if answer.good else _refused(answer.body)
        except msgspec.MsgspecError as error:
            self._book.findings.add(f"an answer that is none ({error}): {record.story()}")
            return
        before, record.outcome = record.outcome, outcome
        if isinstance(outcome, Applied):
            self._book.heard(outcome.balance)
        else:
            self._book.answer()
        if why := fits(record, outcome, before):
            self._book.findings.add(f"{why}: {record.story()}")

    def _suspect(self, answer: Answer | str, what: str) -> None:
        """Being away is allowed; a fence is not, because in a storm nobody loses data."""
        if isinstance(answer, Answer) and _code(answer) not in _AWAY | self._book.excused:
            self._book.findings.add(f"{answer.status} {answer.body.decode(errors='replace')}: {what}")

    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, *, hang_up: bool = False
    ) -> Answer | str:
        """The answer, or why there is none."""
        number = self._rng.randrange(len(self._apis))
        patience = self._rng.uniform(0, _HANG_UP_SECONDS_MAX) if hang_up else ANSWER_SECONDS
        try:
            async with asyncio.timeout(patience):
                return await self._apis[number].ask(
                    method, target, dict(headers), body, half=hang_up and self._rng.random() < 0.5
                )
        except TimeoutError:
            return f"api-{number + 1}: " + ("hung up" if hang_up else "no answer in time")
        except OSError as error:
            return f"api-{number + 1}: {type(error).__name__} {error}"


_AWAY = frozenset({"ledger_unavailable", "overloaded", "journal_backlogged"})


def _code(answer: Answer) -> str:
    try:
        return _refused(answer.body).code
    except msgspec.MsgspecError:
        return ""
