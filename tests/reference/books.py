"""What lies under the verbs: accounts, holds, tasks, the journal, and the time that passes over them."""

import heapq
from collections.abc import Callable
from copy import copy
from typing import Any

from app.ledger.entries import FORMAT, Entry, Kind, Leg
from app.ledger.operations import Write
from app.ledger.shards import TransactionId, shard_of
from tests.reference.accounts import Account
from tests.reference.holds import Hold, released
from tests.reference.outcomes import Line

DAY_MS = 86_400_000
INCARNATION = 1
"""The one under which everything here happens, as transaction ids show it."""


class Books:
    """Only `enter` changes an account, and it writes the entry that says so."""

    def __init__(self, shards: int = 1, remembers_ms: int = DAY_MS) -> None:
        self.shards = shards
        self.remembers_ms = remembers_ms
        self.accounts: dict[str, Account] = {}
        self.holds: dict[str, Hold] = {}
        self.tasks: dict[tuple[str | None, str], str] = {}
        self.refunded: dict[str, tuple[int, int]] = {}
        """How much of a transaction was given back so far, and when it was last."""
        self.journal: list[list[Line]] = [[] for _ in range(shards)]
        self._clocks = [0] * shards
        self._agenda: list[list[tuple[int, str, str]]] = [[] for _ in range(shards)]

    def keep(self) -> Callable[[], None]:
        """Remember everything as it is; what comes back puts it back."""
        accounts = {id_: copy(account) for id_, account in self.accounts.items()}
        holds = {id_: copy(hold) for id_, hold in self.holds.items()}
        tasks, refunded, agenda = dict(self.tasks), dict(self.refunded), [[*each] for each in self._agenda]
        lines = [len(shard) for shard in self.journal]

        def put_back() -> None:
            self.accounts, self.holds, self.tasks = accounts, holds, tasks
            self.refunded, self._agenda = refunded, agenda
            for shard, length in zip(self.journal, lines, strict=True):
                del shard[length:]

        return put_back

    # Time

    def pass_time(self, shard: int, now_ms: int) -> int:
        """End the holds and lapse the lots of a shard that are due, in the order (time, name).

        Time never goes back within a shard: the answer is the shard's time.
        """
        now_ms = self._clocks[shard] = max(self._clocks[shard], now_ms)
        agenda = self._agenda[shard]
        while agenda and agenda[0][0] <= now_ms:
            due_ms, member, id_ = heapq.heappop(agenda)
            if member.startswith("account:"):
                if self.accounts[id_].lapses_at_ms == due_ms:
                    self.lapse(self.accounts[id_], now_ms)
            elif self.holds[id_].status == "pending" and self.holds[id_].deadline_ms == due_ms:
                self._expire(self.holds[id_], now_ms)
        return now_ms

    def due(self, shard: int, now_ms: int) -> int:
        """How much time has to do in a shard, at most."""
        return sum(due_ms <= now_ms for due_ms, _, _ in self._agenda[shard])

    def lapse(self, account: Account, now_ms: int) -> None:
        """What is available in lots past their expiry is gone, in one entry. What is held does not lapse."""
        due = [lot for lot in account.lots if lot.due(now_ms)]
        legs = [Leg(lot.bucket, lot.expires_at_ms, -lot.available, 0) for lot in due]
        if legs:
            self.enter(account, "lapsed", now_ms, -sum(leg.available for leg in legs), legs)

    def _expire(self, hold: Hold, now_ms: int) -> None:
        """A hold past its deadline is released."""
        hold.cause = "expired"
        self.give_back(hold, "expired", now_ms, deadline_ms=hold.deadline_ms)

    def _schedule(self, account: str, due_ms: int, member: str, id_: str) -> None:
        """Note when time has something to do. What is not due any more by then is passed over."""
        agenda = self._agenda[self.shard(account)]
        if (due_ms, member, id_) not in agenda[:1]:
            heapq.heappush(agenda, (due_ms, member, id_))

    def await_deadline(self, hold: Hold) -> None:
        """Time ends the hold at its deadline, unless something else does before."""
        self.accounts[hold.account].open_holds[hold.id] = hold.deadline_ms
        self._schedule(hold.account, hold.deadline_ms, f"reservation:{hold.id}:{hold.account}", hold.id)

    # The journal

    def enter(
        self, account: Account, kind: Kind, now_ms: int, amount: int, legs: list[Leg],
        asked: Write | None = None, **facts: Any,
    ) -> Line:  # fmt: skip
        """Move the account by the legs and write the entry: the next of its account and of its shard."""
        self.accounts[account.id] = account
        account.version += 1
        account.move(legs)
        if asked:
            facts |= {"by": asked.by, "key": asked.key, "fingerprint": asked.fingerprint}
            facts |= {"notes": asked.notes_hash}
        entry = Entry(
            format=FORMAT, kind=kind, at_ms=now_ms, account=account.id, version=account.version,
            amount=amount, available=account.available, held=account.held, legs=legs,
            incarnation=0, nonce="", **facts,
        )  # fmt: skip
        journal = self.journal[self.shard(account.id)]
        journal.append(Line(len(journal) + 1, entry, asked.notes if asked else None))
        if account.lapses_at_ms:
            self._schedule(account.id, account.lapses_at_ms, f"account:{account.id}", account.id)
        return journal[-1]

    def shard(self, account: str) -> int:
        return shard_of(account, self.shards)

    def transaction(self, line: Line) -> str:
        """The receipt number of a line."""
        return str(TransactionId(self.shard(line.entry.account), INCARNATION, line.sequence))

    def line(self, hold: Hold, sequence: int | None) -> Line:
        """A line in which the hold was made, bound or ended."""
        assert sequence
        return self.journal[self.shard(hold.account)][sequence - 1]

    def task_ends_at_ms(self, provider: str | None, task: str) -> int:
        """A task belongs to one reservation, until 24 h after the deadline of that or its late binding."""
        owner = self.holds[self.tasks[provider, task]]
        return max(owner.deadline_ms, self.line(owner, owner.bound_sequence).entry.at_ms) + DAY_MS

    # The ends of a hold

    def give_back(
        self, hold: Hold, kind: Kind, now_ms: int, asked: Write | None = None, **facts: Any
    ) -> Line:  # fmt: skip
        """End a hold as cancelled: what it holds goes back."""
        account, amount = self.accounts[hold.account], hold.held
        legs = account.after_debt(released(hold.legs))
        facts |= {"released": amount, **hold.references}
        line = self.enter(account, kind, now_ms, amount, legs, asked, **facts)
        hold.released += amount
        self.settle(hold, "cancelled", line, now_ms)
        return line

    def settle(self, hold: Hold, status: str, line: Line, now_ms: int) -> None:
        """One ending (I5). What went back into a lot that has lapsed meanwhile lapses at once."""
        assert hold.status == "pending", "a second ending"
        account = self.accounts[hold.account]
        hold.status, hold.legs = status, []
        hold.ended_sequence, hold.settled_at_ms = line.sequence, now_ms
        del account.open_holds[hold.id]
        self.lapse(account, now_ms)
