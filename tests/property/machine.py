"""A state machine that tries whatever is possible, on the engine and on the reference."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Literal

import msgspec
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.asyncio import Redis

from app.ledger.credits import CREDITS_MAX
from app.ledger.operations import (
    Adjust,
    Balance,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Refund,
    Reserve,
)
from app.ledger.shards import TransactionId
from tests.property.plans import KEYS, Plan, bursts, plans, plans_of, steps_of_time
from tests.property.side_by_side import SHARDS, SideBySide
from tests.property.world import ACCOUNTS, FUNDED, HOUR_MS, Amount, amounts
from tests.reference.books import INCARNATION

funded = st.sampled_from(FUNDED)


class LedgerMachine(RuleBasedStateMachine):
    """`connect` makes the client of an engine's Redis; without it the reference is alone."""

    connect: ClassVar[Callable[[], Redis] | None] = None

    @initialize()
    def begin(self) -> None:
        self.both = SideBySide(type(self).connect, note)
        self.world, self.reference = self.both.world, self.both.reference
        self.crowded = False
        for account, amount in zip(FUNDED, (100, 10**15, CREDITS_MAX - 100), strict=True):
            self.both.ask([Grant(account=account, amount=amount)])

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.both.close()

    @invariant()
    def redis_holds_what_the_reference_says(self) -> None:
        if hasattr(self, "both"):
            if not self.crowded:
                self.reference.check()
            self.both.compare()

    @rule()
    def every_shard_is_looked_at(self) -> None:
        self.reference.check()
        self.both.touched = {*range(SHARDS)}

    # Whatever comes

    @rule(plan=plans)
    def one_operation(self, plan: Plan) -> None:
        self.both.ask([plan.operation(self.world)])

    @rule(several=bursts)
    def operations_at_the_same_moment(self, several: list[Plan]) -> None:
        self.both.ask([plan.operation(self.world) for plan in several])

    @rule(several=bursts, atomic=st.booleans())
    def a_batch(self, several: list[Plan], atomic: bool) -> None:
        self.both.ask_at_once([plan.operation(self.world) for plan in several], atomic=atomic)

    @precondition(lambda self: self.both.keyed)
    @rule(number=st.integers(0, 8), changed=st.sampled_from([False, False, True]))
    def a_request_comes_again(self, number: int, changed: bool) -> None:
        """The same key once more; `changed`: with other content."""
        first = self.both.keyed[-1 - number % len(self.both.keyed)]
        again = msgspec.structs.replace(first, journaled=None)  # of which nothing has been asked yet
        if changed:
            again.fingerprint = "another"
        if isinstance(again, Reserve):
            again.reservation = self.world.new_reservation(again.account)
            self.world.reservations.append(again.reservation)
        self.both.ask([again])

    @rule(plan=plans, times=st.integers(2, 4), key=st.sampled_from([*KEYS, None]))
    def the_same_request_at_the_same_moment(self, plan: Plan, times: int, key: str | None) -> None:
        """Impatient clients. With a key one of them acts; without one they all do."""
        self.both.ask([replace(plan, key=key).operation(self.world) for _ in range(times)])

    # Time

    @rule(step_ms=steps_of_time)
    def time_passes(self, step_ms: int) -> None:
        self.both.set_time(self.both.now_ms + step_ms)

    @rule(by_ms=st.integers(-1, 1))
    def time_passes_until_something_is_due(self, by_ms: int) -> None:
        holds = [hold.deadline_ms for hold in self.reference.holds.values() if hold.status == "pending"]
        lots = [account.lapses_at_ms for account in self.reference.accounts.values()]
        due_ms = min((each for each in holds + lots if each > self.both.now_ms), default=0)
        if due_ms:
            self.both.set_time(due_ms + by_ms)

    @rule(shard=st.integers(0, SHARDS - 1))
    def a_shard_is_swept(self, shard: int) -> None:
        self.both.sweep(shard)

    # What chance alone would seldom find

    @rule(account=funded, limit=st.sampled_from([1, 50, CREDITS_MAX]), by=st.integers(-1, 1))
    def an_account_goes_into_debt(self, account: str, limit: int, by: int) -> None:
        self.both.ask([Configure(account=account, overdraft_limit=limit, status="active")])
        room = self.reference.accounts[account].room
        self.both.ask([Deduct(account=account, amount=max(1, min(CREDITS_MAX, room + by)))])

    @rule(account=funded, several=bursts, status=st.sampled_from(["active", "frozen"]))
    def an_account_is_closed_for_a_while(
        self, account: str, several: list[Plan], status: Literal["active", "frozen"]
    ) -> None:
        """Whatever is asked of it meanwhile."""
        self.both.ask([Configure(account=account, status="active", overdraft_limit=CREDITS_MAX)])
        owner = self.reference.accounts[account]
        self.both.ask([Cancel(reservation=id_) for id_ in owner.open_holds])
        balance = owner.available
        if balance:
            self.both.ask([Adjust(account=account, amount=-balance)])
        self.both.ask([Configure(account=account, status="closed")])
        self.both.ask([replace(plan, account=account).operation(self.world) for plan in several])
        self.both.ask([Configure(account=account, status=status, overdraft_limit=0)])
        if balance > 0:
            self.both.ask([Adjust(account=account, amount=balance)])

    @rule(
        account=funded,
        plan=plans_of("grant"),
        in_ms=st.sampled_from([1_000, 5_000, HOUR_MS]),
        rollover=amounts("available"),
    )
    def a_plan_is_renewed(self, account: str, plan: Plan, in_ms: int, rollover: Amount) -> None:
        """What is left of the old ones may move along."""
        plan = replace(
            plan, account=account, facts=plan.facts | {"expires_in_ms": in_ms, "rollover": rollover}
        )
        for before_ms in (1, 3, 2):
            earlier = {"expires_in_ms": in_ms - before_ms, "rollover": None, "amount": Amount("none", 6)}
            old = replace(plan, key=None, facts=plan.facts | earlier)
            self.both.ask([old.operation(self.world)])
        self.both.ask([plan.operation(self.world)])

    @rule(account=funded, plan=plans_of("refund"))
    def what_comes_back_has_lapsed_meanwhile(self, account: str, plan: Plan) -> None:
        lapses_at_ms = self.both.now_ms + 1_000
        self.both.ask([Grant(account=account, amount=6, priority=1, bucket="b", expires_at_ms=lapses_at_ms)])
        self.both.ask([Deduct(account=account, amount=5)])
        self.both.set_time(lapses_at_ms)
        facts = plan.facts | {"number": 0, "by_reservation": False}
        self.both.ask([replace(plan, account=account, facts=facts).operation(self.world)])

    @rule(
        plan=plans_of("reserve"),
        late_ms=st.sampled_from([-500, -1, 0, 1, 24 * HOUR_MS, 24 * HOUR_MS + 1]),
        again=plans_of("confirm"),
    )
    def a_job_ends_in_time_or_late(self, plan: Plan, late_ms: int, again: Plan) -> None:
        self.both.ask([replace(plan, facts=plan.facts | {"on_expired": "charge"}).operation(self.world)])
        hold = self.reference.holds.get(self.world.reservations[-1])
        if hold:
            self.both.set_time(hold.deadline_ms + late_ms)
            self.both.ask([replace(again, facts=again.facts | {"number": 0}).operation(self.world)])

    @rule(account=funded, several=st.lists(plans_of("refund"), min_size=2, max_size=6))
    def what_was_spent_is_wanted_back_by_several(self, account: str, several: list[Plan]) -> None:
        self.both.ask([replace(plan, account=account).operation(self.world) for plan in several])

    @rule(account=funded, number=st.integers(0, 20), key=st.sampled_from([*KEYS, None]))
    def what_was_never_spent_is_wanted_back(self, account: str, number: int, key: str | None) -> None:
        shard = self.reference.shard(account)
        self.both.sweep(shard)
        lines = self.reference.journal[shard]
        line = lines[-1 - number % len(lines)]
        kind = line.entry.kind
        if self.both.engine:
            told = self.both.engine.refuses_to_refund(TransactionId(shard, INCARNATION, line.sequence))
            spent = kind in {"deducted", "confirmed"}
            assert told == (None if spent else ("not_refundable", {"kind": kind}))
            unknown = self.both.engine.refuses_to_refund(TransactionId(shard, INCARNATION, 10**9))
            assert unknown == ("transaction_not_found", {})
        refusal: dict[str, str] = {"kind": kind}
        mark = key and f"refund of {kind}"
        self.both.ask([Refund(account=account, originals=[], refusal=refusal, key=key, fingerprint=mark)])

    @rule(account=funded, ended=st.integers(1, 2), ttl_ms=st.sampled_from([4_000, HOUR_MS]))
    def the_next_release_is_asked_for_as_holds_end(self, account: str, ended: int, ttl_ms: int) -> None:
        """Who cannot pay is told when the next hold ends, also in the call in which the soonest do."""
        self.both.ask(
            [self._hold(account, ttl_ms), self._hold(account, ttl_ms + 1), self._hold(account, ttl_ms)]
        )
        owner = self.reference.accounts[account]
        soonest = sorted(owner.open_holds, key=owner.open_holds.__getitem__)[:ended]
        everything = Deduct(account=account, amount=max(1, owner.room + owner.held))
        if everything.amount <= CREDITS_MAX:
            endings: list[Operation] = [Cancel(reservation=id_) for id_ in soonest]
            self.both.ask([*endings, self._hold(account, ttl_ms), everything])

    def _hold(self, account: str, ttl_ms: int, amount: int = 1) -> Reserve:
        id_ = self.world.new_reservation(account)
        return Reserve(account=account, reservation=id_, amount=amount, ttl_ms=ttl_ms)

    @precondition(lambda self: not self.crowded)
    @rule(
        account=st.sampled_from(ACCOUNTS),
        lots=st.integers(60, 66),
        swept=st.booleans(),
        spend=st.integers(0, 5),
    )
    def a_crowd(self, account: str, lots: int, swept: bool, spend: int) -> None:
        """As many lots as there may be, some of them empty, and more holds than one call ends."""
        self.crowded = True
        self.both.ask([Configure(account=account, status="active")])
        self.both.ask([Grant(account=account, amount=2)])
        self.both.ask([Grant(account=account, amount=1, bucket=f"gone-{n}", priority=1) for n in range(3)])
        self.both.ask([Deduct(account=account, amount=3)])
        self.both.ask([Grant(account=account, amount=2, bucket=f"b-{n}") for n in range(lots)])
        self.both.ask([Deduct(account=account, amount=1) for _ in range(spend)])
        originals = self.world.spent(account, spend, by_reservation=False)
        if originals:
            self.both.ask([Refund(account=account, originals=originals)])
        self.both.ask([self._hold(account, 1_000) for _ in range(115)])
        self.both.set_time(self.both.now_ms + 1_000)
        if not swept:
            self.both.ask([Balance(account=account, open=True)])

    @precondition(lambda self: not self.crowded)
    @rule(parts=st.integers(99, 101), extensions=st.integers(99, 101))
    def as_many_parts_and_extensions_as_there_may_be(self, parts: int, extensions: int) -> None:
        self.crowded = True
        self.both.ask([Configure(account="many", status="active")])
        self.both.ask([Adjust(account="many", amount=parts + 1)])
        hold = self._hold("many", HOUR_MS, parts + 1)
        self.both.ask([hold])
        if hold.reservation in self.reference.holds:
            id_ = hold.reservation
            self.both.ask([Extend(reservation=id_, ttl_ms=HOUR_MS) for _ in range(extensions)])
            self.both.ask(
                [
                    Confirm(reservation=id_, amount=1, final=False, key=f"part {n}", fingerprint="f")
                    for n in range(parts)
                ]
            )
