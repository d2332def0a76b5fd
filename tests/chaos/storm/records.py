"""What was asked, and what came of it: the memory against which the ledger is held."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct


class Sums(Struct, rename="camel"):
    """What an account had as of one of its versions."""

    available: int
    held: int


class Balance(Struct, rename="camel"):
    """An account as an answer showed it."""

    account_id: str
    version: int
    available: int
    held: int


class Transaction(Struct, rename="camel"):
    """The line of the journal that an answer named."""

    id: str
    kind: str
    account_id: str
    amount: int
    version: int
    balance: Sums
    reservation_id: str | None = None


class Reservation(Struct, rename="camel"):
    """A hold as an answer showed it."""

    id: str
    account_id: str
    status: str
    reserved: int
    captured: int
    released: int
    held: int
    cancel_cause: str | None = None


class Applied(Struct, rename="camel"):
    """A verb was carried out, now or the first time that it was asked."""

    transaction: Transaction
    balance: Balance
    reservation: Reservation | None = None


class Refused(Struct, rename="camel"):
    """The ledger is well and said no. The numbers are those of a refusal of funds."""

    status: int
    code: str
    required: int | None = None
    available: int | None = None
    held: int | None = None


Definite = Applied | Refused


@dataclass(slots=True)
class Record:
    """One request, under one key, however often it was sent.

    `subject` is what the key belongs to: the account, or for confirm and cancel the reservation. A request
    without a key (`key` is empty) is sent once; its `mark` is the model that it names, by which the journal
    knows it again. `known_version` is what anybody had been told of the account before it was first sent, so
    that the answer must be younger.
    """

    verb: str
    account: str
    subject: str
    key: str
    body: Mapping[str, object]
    known_version: int
    amount: int = 0
    mark: str = ""
    reservation: str = ""
    outcome: Definite | None = None
    was_unknown: bool = False
    asked_at: float = field(default_factory=time.monotonic)
    tries: list[str] = field(default_factory=list)

    def answered(self, what: str) -> None:
        """Note what came back."""
        self.tries.append(f"{time.time():.3f} {what}")

    def unanswered(self, why: str) -> None:
        """Note that nobody knows what one sending has done."""
        self.was_unknown = self.was_unknown or self.outcome is None
        self.tries.append(f"{time.time():.3f} {why}")

    def story(self) -> str:
        """For people: all that is known of it."""
        named = self.key or f"(no key, model {self.mark})"
        lines = [f"{self.verb} {named} of {self.account}: {dict(self.body)}"]
        if len(self.tries) > 12:  # noqa: SIM108
            tries = [*self.tries[:6], "...", *self.tries[-6:]]
        else:
            tries = self.tries
        return "\n".join([*lines, *(f"    {each}" for each in tries), f"    outcome: {self.outcome}"])


@dataclass(slots=True)
class Look:
    """A balance that was answered to somebody who only looked."""

    account: str
    known_version: int
    version: int
    available: int
    held: int
    asked_at: float


class Findings:
    """Broken promises. `lost` and `doubled` count operations; the sentences tell of all that was found."""

    KEPT_MAX = 20

    def __init__(self) -> None:
        self.lost = 0
        self.doubled = 0
        self.count = 0
        self.sentences: list[str] = []

    def lose(self, sentence: str) -> None:
        """Something acknowledged is not there."""
        self.lost += 1
        self.add(f"LOST: {sentence}")

    def double(self, sentence: str) -> None:
        """Something was done twice."""
        self.doubled += 1
        self.add(f"DOUBLED: {sentence}")

    def add(self, sentence: str) -> None:
        """Anything else that may not be."""
        self.count += 1
        if len(self.sentences) < self.KEPT_MAX:
            self.sentences.append(sentence)


class Book:
    """All records and looks of a storm, and what was told of each account so far."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.records: list[Record] = []
        self.looks: list[Look] = []
        self.keys: set[tuple[str, str]] = set()
        self.marks: dict[str, Record] = {}
        self.later: list[Record] = []
        self.excused: set[str] = set()
        """Codes of a 503 that those who ask must put up with; they ask again later."""
        self.patience_seconds = 60.0
        """Within which there must be a definite answer, to those who do not give up."""
        self.told: dict[str, int] = {}
        self.answered = 0
        self.silence = 0.0
        """The longest time between two answers since somebody set it to 0."""
        self._last_answer = time.monotonic()

    def open(self, record: Record) -> Record:
        """A new record. Its key must not have been used for that subject."""
        if record.key:
            assert (record.subject, record.key) not in self.keys, "a key used for two requests"
            self.keys.add((record.subject, record.key))
        if record.mark:
            self.marks[record.mark] = record
        self.records.append(record)
        return record

    def heard(self, balance: Balance) -> None:
        """Somebody was told that the account has this version."""
        self.told[balance.account_id] = max(self.told.get(balance.account_id, 0), balance.version)
        self.answer()

    def answer(self) -> None:
        """Somebody got a definite answer."""
        now = time.monotonic()
        self.silence = max(self.silence, now - self._last_answer)
        self._last_answer = now
        self.answered += 1

    def known(self, account: str) -> int:
        """The highest version that anybody was told; 0 before the first."""
        return self.told.get(account, 0)
