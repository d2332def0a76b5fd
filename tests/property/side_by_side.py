"""The engine and the reference are asked the same things, and what they show is compared."""

import time
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from app.ledger.entries import Entry
from app.ledger.operations import (
    Adjust,
    Balance,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Refund,
    Reserve,
    Write,
)
from app.ledger.shards import shard_of
from tests.property.answers import bare, in_words, shown_by_engine, shown_by_reference
from tests.property.engine import Engine
from tests.property.plans import LASTING_KEYS
from tests.property.stored import Stored
from tests.property.world import DAY_MS, World
from tests.reference import Applied, Outcome, Reference, Seen

SHARDS = 4
OPERATIONS_NOTED_MAX = 12
EVENTS_MAX = 100  # so much that is due does one call
NEVER = -1
FOR_EVER_MS = 10**12  # Redis forgets by its own clock, not by the test's


class SideBySide:
    """`connect` makes the client of an engine's Redis; without it the reference is alone. `note` is told what
    was asked and answered.
    """

    def __init__(
        self, connect: Callable[[], Redis] | None, note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._note_down = note
        self.begun_ms = self.now_ms = time.time_ns() // 1_000_000 + 3_000
        self.reference = Reference(SHARDS, FOR_EVER_MS) if connect else Reference(SHARDS)
        self.world = World(self.reference, self.now_ms)
        self.keyed: list[Write] = []
        self.touched: set[int] = set()
        self._compared = [0] * SHARDS
        self._links = ["genesis"] * SHARDS
        self.engine = Engine(connect, SHARDS) if connect else None
        self.set_time(self.now_ms)

    def close(self) -> None:
        if self.engine:
            self.engine.close()

    def set_time(self, now_ms: int) -> None:
        """Within a few days of the beginning; before each hour that passes the journal catches up."""
        if now_ms > self.begun_ms + 4 * DAY_MS:
            return
        self.now_ms = self.world.now_ms = now_ms
        if self.engine:
            self.engine.journal_catches_up()
            self.engine.set_time(now_ms)

    # Asking

    def ask(self, operations: Sequence[Operation]) -> list[Outcome]:
        """What arrives together is one call; what the engine must look something up for comes after it.
        Returns what the reference says, in the order in which it was carried out.
        """
        opening, alone, fast = list[Operation](), list[Operation](), list[Operation]()
        for each in operations:
            if isinstance(each, Grant | Configure) and each.account not in self.reference.accounts:
                opening.append(each)
            elif self._is_looked_up(each) or (isinstance(each, Extend) and len(operations) > 1):
                alone.append(each)
            else:
                fast.append(each)
        outcomes = self._ask_together(fast, opening[:1])
        for each in [*opening[1:], *alone]:
            outcomes += self._ask_together([], [each])
        return outcomes

    def ask_at_once(self, operations: Sequence[Operation], *, atomic: bool) -> None:
        """One batch. Operations that some callers alone may ask for have no place in it, and neither have
        those that depend on others of it.
        """
        made = {each.reservation for each in operations if isinstance(each, Reserve)}
        batch = [
            each
            for each in operations
            if isinstance(each, Write)
            and not isinstance(each, Configure | Bind)
            and not (isinstance(each, Extend) and each.reservation in made)
        ]
        if not (atomic and all(self._is_quick(each) for each in batch)):
            for shard in self._shards_of(batch):
                self.sweep(shard)
        self._remember(batch)
        if atomic:
            outcomes, failed = self.reference.apply_all(batch, self.now_ms)
        else:
            outcomes, failed = self._one_by_one(batch), None
        self._note("atomic: " if atomic else "batch: ", batch, outcomes)
        if self.engine and batch:
            answers, failed_there = self.engine.batch(batch, atomic=atomic)
            assert failed_there == failed, answers
            self._compare_answers(
                batch, answers, [self._as_of_now(*each) for each in zip(batch, outcomes, strict=True)]
            )

    def sweep(self, shard: int) -> None:
        self.touched.add(shard)
        self.reference.pass_time(shard, self.now_ms)
        if self.engine:
            self.engine.pass_time(shard)

    @staticmethod
    def _is_looked_up(asked: Operation) -> bool:
        """Whether the engine asks the journal what its key has stood for."""
        if not isinstance(asked, Write) or asked.key is None:
            return False
        return isinstance(asked, Grant | Refund | Adjust) or asked.key in LASTING_KEYS

    def _one_by_one(self, batch: Sequence[Write]) -> list[Outcome]:
        """What is asked of an account from the grant on that opens it is carried out after all else."""
        opened: set[str] = set()
        after: list[int] = []
        for number, each in enumerate(batch):
            account = getattr(each, "account", None)
            if isinstance(each, Grant) and account not in self.reference.accounts:
                opened.add(each.account)
            if account in opened and not isinstance(each, Confirm | Cancel | Extend):
                after.append(number)
        before = [number for number in range(len(batch)) if number not in after]
        outcomes = {number: self.reference.apply(batch[number], self.now_ms) for number in before + after}
        return [outcomes[number] for number in range(len(batch))]

    def _is_quick(self, asked: Write) -> bool:
        """Whether the engine has nothing to look up for it, by which time would pass, nor to ask it again."""
        if asked.key is not None or self._due(self.reference.home(asked)) > EVENTS_MAX:
            return False
        if isinstance(asked, Confirm | Cancel):
            return asked.reservation in self.reference.holds
        return isinstance(asked, Grant | Deduct | Reserve) and asked.account in self.reference.accounts

    def _ask_together(self, operations: list[Operation], after: list[Operation]) -> list[Outcome]:
        """Compare the answers to what is asked at the same moment; what the engine looks up comes after."""
        together = [*operations, *after]
        if len(self._shards_of(together)) > 1 or len(together) > 1 or after:
            # More due than one call ends is answered out of turn, and what the journal answers is not sent.
            for shard in self._shards_of(together):
                self.sweep(shard)
        self._remember(together)
        for shard in self._shards_of(together):
            self.reference.pass_time(shard, self.now_ms)
        expected: list[Outcome] = []
        for call in (operations, after):
            outcomes = [self.reference.apply(each, self.now_ms) for each in call]
            expected += [self._as_of_now(*each) for each in zip(call, outcomes, strict=True)]
        self._note("", together, expected)
        if self.engine:
            self._compare_answers(together, self.engine.apply(together), expected)
        return expected

    def _remember(self, operations: Sequence[Operation]) -> None:
        self.keyed += [each for each in operations if isinstance(each, Write) and each.key]
        self.touched |= self._shards_of(operations)

    def _shards_of(self, operations: Sequence[Operation]) -> set[int]:
        return {shard for each in operations for shard in self.reference.concerned(each)}

    def _due(self, shard: int) -> int:
        return self.reference.due(shard, self.now_ms)

    def _as_of_now(self, asked: Operation, outcome: Outcome) -> Outcome:
        """Accounts and reservations in a reply are shown as the call has left them."""
        if isinstance(outcome, Seen) and isinstance(asked, Balance):
            return self.reference.apply(asked, self.now_ms)
        if isinstance(outcome, Seen):
            found = [self.reference.holds[each.id].stored() for each in outcome.reservations]
            return outcome._replace(reservations=found)
        if isinstance(outcome, Applied) and outcome.line:
            return self.reference.applied(outcome.line, replayed=outcome.replayed)
        if isinstance(outcome, Applied) and isinstance(asked, Configure):
            return outcome._replace(account=self.reference.accounts[asked.account].stored())
        return outcome

    def _note(self, what: str, asked: Sequence[Operation], outcomes: Sequence[Outcome]) -> None:
        if len(asked) <= OPERATIONS_NOTED_MAX:
            for each, outcome in zip(asked, outcomes, strict=True):
                self._note_down(what + in_words(each, outcome))

    @staticmethod
    def _compare_answers(
        asked: Sequence[Operation], answers: Sequence[object], expected: Sequence[Outcome]
    ) -> None:
        for each, answer, outcome in zip(asked, answers, expected, strict=True):
            shown, demanded = shown_by_engine(answer), shown_by_reference(each, outcome, SHARDS)
            assert shown == demanded, f"{each}\n{shown}\ninstead of\n{demanded}"

    # What Redis holds

    def compare(self) -> None:
        """Demand that Redis holds what the reference says, in the shards that were touched since."""
        if self.engine:
            for shard in self.touched:
                self._compare_journals(self.engine, shard)
                self._compare_stores(self.engine.stored(shard), shard)
            self.touched.clear()

    def _compare_journals(self, engine: Engine, shard: int) -> None:
        expected = self.reference.journal[shard][self._compared[shard] :]
        actual = engine.new_lines(shard)
        self._compared[shard] += len(expected)
        for line, (sequence, entry, notes) in zip(expected, actual, strict=False):
            assert (sequence, bare(entry), notes) == tuple(line)
            self._follow_the_link(shard, entry)
        assert len(actual) == len(expected), f"shard {shard}: {(expected[len(actual) :] or actual)[:1]}"

    def _follow_the_link(self, shard: int, entry: Entry) -> None:
        """Only the first entry of a call names the call before it; all name their own, which is fresh."""
        assert entry.incarnation == 1
        if entry.previous_nonce is None:
            assert entry.nonce == self._links[shard]
        else:
            assert entry.previous_nonce == self._links[shard] != entry.nonce
        self._links[shard] = entry.nonce

    def _compare_stores(self, stored: Stored, shard: int) -> None:
        reference = self.reference
        accounts = {k: v for k, v in reference.accounts.items() if shard_of(k, SHARDS) == shard}
        holds = {k: v for k, v in reference.holds.items() if v.account in accounts}
        pending = {k: v for k, v in holds.items() if v.status == "pending"}
        assert stored.meta["sequence"] == str(len(reference.journal[shard]))
        assert (stored.meta["link"], stored.meta["fence"]) == (self._links[shard], "")
        assert stored.accounts == {id_: account.stored() for id_, account in accounts.items()}
        assert stored.reservations == {id_: hold.stored() for id_, hold in holds.items()}
        refunded = {k: total for k, (total, _) in reference.refunded.items() if k.startswith(f"{shard}-")}
        assert stored.refunded == refunded
        due = {f"account:{k}": v.lapses_at_ms for k, v in accounts.items() if v.lapses_at_ms}
        due |= {f"reservation:{k}:{v.account}": v.deadline_ms for k, v in pending.items()}
        assert stored.due == due
        assert stored.holds == {k: v.open_holds for k, v in accounts.items() if v.open_holds}
        ends = {f"reservation:{k}": (hold.settled_at_ms or 0) + DAY_MS for k, hold in holds.items()}
        ends |= {
            f"{kind}:{k}": NEVER
            for kind, names in (("account", accounts), ("reservation", pending))
            for k in names
        }
        ends |= {
            f"task:{provider or ''}:{task}": reference.task_ends_at_ms(provider, task)
            for provider, task in reference.tasks
            if reference.home_of_task(provider, task) == shard
        }
        assert {name: stored.forgotten_at_ms[name] for name in ends} == ends
        assert "aside" not in stored.forgotten_at_ms
