"""A state machine that asks the engine and the reference the same things and compares what they show."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import msgspec
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.asyncio import Redis

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry
from app.ledger.operations import Balance, Cancel, Deduct, Grant, Operation, Reserve, Write
from app.ledger.shards import shard_of
from tests.property.answers import bare, in_words, shown_by_engine, shown_by_reference
from tests.property.engine import Engine, Stored
from tests.property.plans import ACCOUNTS, FUNDED, HOUR_MS, KEYS, Plan, World, bursts, plans, steps_of_time
from tests.reference import Applied, Outcome, Reference, Seen
from tests.reference.ledger import DAY_MS

SHARDS = 4
OPERATIONS_NOTED_MAX = 12
NEVER = -1
HOURS_MAX = 5  # nobody keeps the journal here: an entry that is six hours old stops the shard
"""What is kept for 24 h stays: Redis forgets by its own clock, not by the test's."""


class LedgerMachine(RuleBasedStateMachine):
    """`connect` makes the client of an engine's Redis; without it the reference is alone."""

    connect: ClassVar[Callable[[], Redis] | None] = None

    @initialize()
    def begin(self) -> None:
        self.begun_ms = self.now_ms = time.time_ns() // 1_000_000 + 3_000
        self.reference = Reference(SHARDS)
        self.world = World(self.reference, self.now_ms)
        self.keyed: list[Write] = []
        self.compared = [0] * SHARDS
        self.links = ["genesis"] * SHARDS
        self.crowded = False
        self.touched: set[int] = set()
        connect = type(self).connect
        self.engine: Engine | None = Engine(connect, SHARDS) if connect else None
        self.set_time(self.now_ms)
        for account, amount in zip(FUNDED, (100, 10**15, CREDITS_MAX - 100), strict=True):
            self.ask([Grant(account=account, amount=amount)])

    def teardown(self) -> None:
        if getattr(self, "engine", None):
            assert self.engine
            self.engine.close()

    @rule()
    def every_shard_is_looked_at(self) -> None:
        self.reference.check()
        self.touched = {*range(SHARDS)}

    @rule(plan=plans)
    def one_operation(self, plan: Plan) -> None:
        self.ask([plan.operation(self.world)])

    @rule(several=bursts)
    def operations_at_the_same_moment(self, several: list[Plan]) -> None:
        self.ask([plan.operation(self.world) for plan in several])

    @precondition(lambda self: self.keyed)
    @rule(number=st.integers(0, 8), changed=st.sampled_from([False, False, True]))
    def a_request_comes_again(self, number: int, changed: bool) -> None:
        """The same key once more; `changed`: with other content."""
        again = msgspec.structs.replace(self.keyed[-1 - number % len(self.keyed)])
        if changed:
            again.fingerprint = "another"
        if isinstance(again, Reserve):
            again.reservation = self.world.new_reservation(again.account)
            self.world.reservations.append(again.reservation)
        self.ask([again])

    @rule(plan=plans, times=st.integers(2, 4), key=st.sampled_from([*KEYS, None]))
    def the_same_request_at_the_same_moment(self, plan: Plan, times: int, key: str | None) -> None:
        """Impatient clients. With a key one of them acts; without one they all do."""
        self.ask([replace(plan, key=key).operation(self.world) for _ in range(times)])

    @rule(account=st.sampled_from(FUNDED), ended=st.integers(1, 2), ttl_ms=st.sampled_from([4_000, HOUR_MS]))
    def the_next_release_is_asked_for_as_holds_end(self, account: str, ended: int, ttl_ms: int) -> None:
        """Who cannot pay is told when the next hold ends, also in the call in which the soonest do."""
        self.ask([self.hold(account, ttl_ms), self.hold(account, ttl_ms + 1), self.hold(account, ttl_ms)])
        owner = self.reference.accounts[account]
        soonest = sorted(owner.open_holds, key=owner.open_holds.__getitem__)[:ended]
        everything = Deduct(account=account, amount=max(1, owner.available + owner.held))
        self.ask([*(Cancel(reservation=id_) for id_ in soonest), self.hold(account, ttl_ms), everything])

    def hold(self, account: str, ttl_ms: int) -> Reserve:
        id_ = self.world.new_reservation(account)
        return Reserve(account=account, reservation=id_, amount=1, ttl_ms=ttl_ms)

    @rule(step_ms=steps_of_time)
    def time_passes(self, step_ms: int) -> None:
        if self.now_ms + step_ms < self.begun_ms + HOURS_MAX * HOUR_MS:
            self.set_time(self.now_ms + step_ms)

    @rule(by_ms=st.integers(-1, 1))
    def time_passes_until_something_is_due(self, by_ms: int) -> None:
        holds = [hold.deadline_ms for hold in self.reference.holds.values() if hold.status == "pending"]
        lots = [account.lapses_at_ms for account in self.reference.accounts.values()]
        due_ms = min((each for each in holds + lots if each > self.now_ms), default=0)
        if due_ms and due_ms < self.begun_ms + HOURS_MAX * HOUR_MS:
            self.set_time(due_ms + by_ms)

    @rule(shard=st.integers(0, SHARDS - 1))
    def a_shard_is_swept(self, shard: int) -> None:
        self.sweep(shard)

    @precondition(lambda self: not self.crowded)
    @rule(account=st.sampled_from(ACCOUNTS), lots=st.integers(60, 66), swept=st.booleans())
    def a_crowd(self, account: str, lots: int, swept: bool) -> None:
        """As many lots as there may be, and more holds than one call ends."""
        self.crowded = True
        self.ask([Grant(account=account, amount=2)])
        self.ask([Grant(account=account, amount=2, bucket=f"b-{number}") for number in range(lots)])
        self.ask([self.hold(account, 1_000) for _ in range(115)])
        self.set_time(self.now_ms + 1_000)
        if not swept:
            self.ask([Balance(account=account, open=True)])

    def set_time(self, now_ms: int) -> None:
        self.now_ms = self.world.now_ms = now_ms
        if self.engine:
            self.engine.set_time(now_ms)

    def ask(self, operations: list[Operation]) -> None:
        """Ask both. What arrives together is one call; a grant that opens an account is the call after it."""
        accounts = self.reference.accounts
        opening = [each for each in operations if isinstance(each, Grant) and each.account not in accounts]
        for each in opening[1:]:
            operations.remove(each)
        self.ask_together([each for each in operations if each not in opening], opening[:1])
        for each in opening[1:]:
            self.ask([each])

    def ask_together(self, operations: list[Operation], opening: list[Grant]) -> None:
        """Compare the answers to what is asked at the same moment."""
        together = [*operations, *opening]
        if len(self.shards_of(together)) > 1 or len(together) > 1:
            self.catch_up(together)
        self.keyed += [each for each in together if isinstance(each, Write) and each.key]
        for shard in self.shards_of(together):
            self.reference.pass_time(shard, self.now_ms)
            self.touched.add(shard)
        expected: list[Outcome] = []
        for call in (operations, list[Operation](opening)):
            outcomes = [self.reference.apply(each, self.now_ms) for each in call]
            expected += [self.as_of_now(each, outcome) for each, outcome in zip(call, outcomes, strict=True)]
        if len(together) <= OPERATIONS_NOTED_MAX:
            for each, outcome in zip(together, expected, strict=True):
                note(in_words(each, outcome))
        if self.engine:
            answers = self.engine.apply(together)
            for each, answer, outcome in zip(together, answers, expected, strict=True):
                assert shown_by_engine(answer) == shown_by_reference(each, outcome, SHARDS), each

    def catch_up(self, operations: list[Operation]) -> None:
        """A shard with more due than one call ends answers in a later call, out of turn: sweep it first."""
        for shard in self.shards_of(operations):
            self.sweep(shard)

    def shards_of(self, operations: list[Operation]) -> set[int]:
        return {shard for each in operations for shard in self.reference.concerned(each)}

    def sweep(self, shard: int) -> None:
        self.touched.add(shard)
        self.reference.pass_time(shard, self.now_ms)
        if self.engine:
            self.engine.pass_time(shard)

    def as_of_now(self, asked: Operation, outcome: Outcome) -> Outcome:
        """Accounts and reservations in a reply are shown as the call has left them."""
        if isinstance(outcome, Seen) and isinstance(asked, Balance):
            return self.reference.apply(asked, self.now_ms)
        if isinstance(outcome, Seen):
            found = [self.reference.holds[each.id].stored() for each in outcome.reservations]
            return outcome._replace(reservations=found)
        if isinstance(outcome, Applied):
            hold = self.reference.holds.get(outcome.line.entry.reservation or "")
            account = self.reference.accounts[outcome.line.entry.account].stored()
            return outcome._replace(account=account, reservation=hold.stored() if hold else None)
        return outcome

    @invariant()
    def the_reference_keeps_its_promises(self) -> None:
        if hasattr(self, "reference") and not self.crowded:
            self.reference.check()

    @invariant()
    def redis_holds_what_the_reference_says(self) -> None:
        if getattr(self, "engine", None):
            assert self.engine
            for shard in self.touched:
                self.compare_journals(self.engine, shard)
                self.compare_stores(self.engine.stored(shard), shard)
            self.touched.clear()

    def compare_journals(self, engine: Engine, shard: int) -> None:
        expected = self.reference.journal[shard][self.compared[shard] :]
        actual = engine.new_lines(shard)
        self.compared[shard] += len(expected)
        for line, (sequence, entry, notes) in zip(expected, actual, strict=False):
            assert (sequence, bare(entry), notes) == tuple(line)
            self.follow_the_link(shard, entry)
        assert len(actual) == len(expected), f"shard {shard}: {(expected[len(actual) :] or actual)[:1]}"

    def follow_the_link(self, shard: int, entry: Entry) -> None:
        """Only the first entry of a call names the call before it; all name their own, which is fresh."""
        assert entry.incarnation == 1
        if entry.previous_nonce is None:
            assert entry.nonce == self.links[shard]
        else:
            assert entry.previous_nonce == self.links[shard] != entry.nonce
        self.links[shard] = entry.nonce

    def compare_stores(self, stored: Stored, shard: int) -> None:
        accounts = {k: v for k, v in self.reference.accounts.items() if shard_of(k, SHARDS) == shard}
        holds = {k: v for k, v in self.reference.holds.items() if v.account in accounts}
        pending = {k: v for k, v in holds.items() if v.status == "pending"}
        assert stored.meta["sequence"] == str(len(self.reference.journal[shard]))
        assert (stored.meta["link"], stored.meta["fence"]) == (self.links[shard], "")
        assert stored.accounts == {id_: account.stored() for id_, account in accounts.items()}
        assert stored.reservations == {id_: hold.stored() for id_, hold in holds.items()}
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
        assert {name: stored.forgotten_at_ms[name] for name in ends} == ends
