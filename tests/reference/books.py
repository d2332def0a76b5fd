"""What lies under the verbs: accounts, holds, tasks, the journal, and the time that passes over them."""

import heapq
from typing import Any

from app.ledger.entries import FORMAT, Entry, Kind, Leg
from app.ledger.operations import Write
from app.ledger.shards import shard_of
from tests.reference.accounts import Account, Hold
from tests.reference.outcomes import Line


class Books:
    """Only `enter` changes an account, and it writes the entry that says so."""

    def __init__(self, shards: int = 1) -> None:
        self.shards = shards
        self.accounts: dict[str, Account] = {}
        self.holds: dict[str, Hold] = {}
        self.tasks: dict[tuple[str | None, str], str] = {}
        self.journal: list[list[Line]] = [[] for _ in range(shards)]
        self._clocks = [0] * shards
        self._agenda: list[list[tuple[int, str]]] = [[] for _ in range(shards)]
        self._due: dict[str, Account | Hold] = {}

    def pass_time(self, shard: int, now_ms: int) -> int:
        """End the holds and lapse the lots of a shard that are due, in the order (time, name).

        Time never goes back within a shard: the answer is the shard's time.
        """
        now_ms = self._clocks[shard] = max(self._clocks[shard], now_ms)
        agenda = self._agenda[shard]
        while agenda and agenda[0][0] <= now_ms:
            due_ms, member = heapq.heappop(agenda)
            what = self._due[member]
            if isinstance(what, Account) and what.lapses_at_ms == due_ms:
                self._lapse(what, now_ms)
            elif isinstance(what, Hold) and what.status == "pending":
                self._expire(what, now_ms)
        return now_ms

    def _lapse(self, account: Account, now_ms: int) -> None:
        """What is available in lots past their expiry is gone, in one entry. What is held does not lapse."""
        due = [lot for lot in account.lots if lot.due(now_ms)]
        legs = [Leg(lot.bucket, lot.expires_at_ms, -lot.available, 0) for lot in due]
        if legs:
            self.enter(account, "lapsed", now_ms, -sum(leg.available for leg in legs), legs)

    def _expire(self, hold: Hold, now_ms: int) -> None:
        """A hold past its deadline is released."""
        hold.cause = "expired"
        self.end(hold, "expired", now_ms, deadline_ms=hold.deadline_ms)

    def enter(
        self, account: Account, kind: Kind, now_ms: int, amount: int, legs: list[Leg],
        asked: Write | None = None, **facts: Any,
    ) -> Line:  # fmt: skip
        """Move the account by the legs and write the entry: the next of its account and of its shard."""
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
        journal = self.journal[shard_of(account.id, self.shards)]
        journal.append(Line(len(journal) + 1, entry, asked.notes if asked else None))
        if account.lapses_at_ms:
            self._schedule(account.id, account.lapses_at_ms, f"account:{account.id}", account)
        return journal[-1]

    def open(self, hold: Hold, now_ms: int, asked: Write) -> Line:
        """Begin a hold, with its entry."""
        account = self.account_of(hold)
        legs = [Leg(leg.bucket, leg.expires_at_ms, -leg.held, leg.held) for leg in hold.legs]
        facts: dict[str, Any] = {"deadline_ms": hold.deadline_ms, **hold.references}
        line = self.enter(account, "reserved", now_ms, hold.held, legs, asked, **facts)
        hold.reserved_sequence = line.sequence
        self.holds[hold.id] = hold
        account.open_holds[hold.id] = hold.deadline_ms
        self._schedule(account.id, hold.deadline_ms, f"reservation:{hold.id}:{account.id}", hold)
        return line

    def end(
        self, hold: Hold, kind: Kind, now_ms: int, spent: int = 0, asked: Write | None = None, **facts: Any
    ) -> Line:
        """End a hold, with its entry. What goes back into a lot that has lapsed meanwhile lapses at once."""
        account = self.account_of(hold)
        released = hold.held - spent
        facts |= {"released": released, **hold.references}
        amount = spent if kind == "confirmed" else released
        line = self.enter(account, kind, now_ms, amount, hold.capture(spent), asked, **facts)
        hold.end("confirmed" if kind == "confirmed" else "cancelled", spent, line.sequence, now_ms)
        del account.open_holds[hold.id]
        self._lapse(account, now_ms)
        return line

    def account_of(self, hold: Hold) -> Account:
        return self.accounts[hold.account]

    def line(self, hold: Hold, sequence: int | None) -> Line:
        """A line in which the hold was made, bound or ended."""
        assert sequence
        return self.journal[shard_of(hold.account, self.shards)][sequence - 1]

    def _schedule(self, account: str, due_ms: int, member: str, what: Account | Hold) -> None:
        """Note when time has something to do. What is not due any more by then is passed over."""
        agenda = self._agenda[shard_of(account, self.shards)]
        if (due_ms, member) not in agenda[:1]:
            heapq.heappush(agenda, (due_ms, member))
        self._due[member] = what
