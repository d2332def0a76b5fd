"""What happens to an account, call by call: a story for each thing that products need.

A story gives the operations of one call after the other, and is told what came of each. So whoever tells it
may cut it between any two calls.
"""

from app.ledger.entries import seal
from tests.integration.reconcile.past import IN_2100_MS
from tests.integration.reconcile.products import PRICE
from tests.integration.reconcile.telling import (
    HOUR_MS,
    Customer,
    Passes,
    Story,
    bind,
    cancel,
    confirm,
    extend,
    part,
    spent,
    task_of,
)

LATER_MS = IN_2100_MS + 1


def rollovers(ana: Customer) -> Story:
    """Plans are renewed, and what is left of them moves along. A job gives back to a lot that has gone."""
    job = ana.job()
    yield [ana.grant(60, bucket="plan", expires_at_ms=IN_2100_MS, priority=10), ana.grant(7)]
    yield [ana.reserve(job, 20)]
    yield [ana.grant(60, bucket="plan", expires_at_ms=LATER_MS, rollover=30)]
    yield [ana.deduct(95)]
    yield [cancel(job)]
    yield [ana.grant(5, bucket="plan", rollover=100)]


def priorities(ana: Customer) -> Story:
    """A priority is set for a bucket that is there, that is empty, and that is not there yet."""
    yield [ana.grant(10, bucket="plan", priority=10), ana.grant(10, bucket="gifts", priority=50)]
    yield [ana.deduct(10)]
    yield [ana.grant(3, bucket="gifts", priority=5), ana.grant(3, bucket="x/y")]
    yield [ana.deduct(16)]
    yield [ana.grant(4, bucket="plan"), ana.grant(4, bucket="gifts", priority=100)]
    yield [ana.grant(1, bucket="x/y", priority=1), ana.deduct(9)]


def priorities_of_nothing(ana: Customer) -> Story:
    """All of a grant repays a debt, so that no bucket is there to keep the priority that came with it."""
    yield [ana.grant(10), ana.configure(overdraft_limit=100)]
    yield [ana.deduct(60)]
    yield [ana.grant(20, bucket="plan", priority=200)]
    yield [ana.grant(50)]
    yield [ana.grant(6, bucket="plan")]
    yield [ana.deduct(26), ana.grant(8, bucket="plan")]


def parts(ana: Customer) -> Story:
    """Jobs are paid for in parts, of several lots, to the end or not."""
    one, other = ana.job(), ana.job()
    yield [ana.grant(10, bucket="plan", expires_at_ms=IN_2100_MS), ana.grant(30)]
    yield [ana.reserve(one, 25), ana.reserve(other, 15)]
    yield [part(one, 7, "first"), part(other, 1, "first")]
    yield [part(one, 6, "second")]
    yield [confirm(one, 4)]
    yield [part(other, 2, "second")]


def over_captures(ana: Customer) -> Story:
    """Jobs cost more than was held: up to what is held, of what is available, and of a credit line."""
    capped, charged, owed = (ana.job() for _ in range(3))
    yield [ana.grant(10, bucket="plan"), ana.grant(30, bucket="z"), ana.configure(overdraft_limit=50)]
    yield [
        ana.reserve(capped, 5, over_capture="cap"),
        ana.reserve(charged, 8, over_capture="charge"),
        ana.reserve(owed, 9),
    ]
    yield [confirm(capped, 7)]
    yield [confirm(charged, 14)]
    yield [confirm(owed, 39, over_capture="charge")]
    yield [ana.grant(25)]


def late_confirms(ana: Customer) -> Story:
    """Jobs end after their deadline: one is paid for late, one in part before too, one not."""
    late, paid, free, never = (ana.job() for _ in range(4))
    yield [ana.grant(50, bucket="plan"), ana.grant(50), ana.configure(overdraft_limit=30)]
    yield [
        *(ana.reserve(job, 20, ttl_ms=1_000, on_expired="charge") for job in (late, free, never)),
        ana.reserve(paid, 20, ttl_ms=1_000),
        part(paid, 6, "first"),
    ]
    yield Passes(1_500)
    yield [confirm(late, model="video-2"), ana.deduct(40)]
    yield [confirm(paid, 9, on_expired="charge")]
    yield [confirm(free, 0)]


def extensions(ana: Customer) -> Story:
    """Jobs run longer, more than once, and end by themselves or not."""
    long, short = ana.job(), ana.job()
    yield [ana.grant(50)]
    yield [ana.reserve(long, 9, **task_of(long)), ana.reserve(short, 8, ttl_ms=1_000), extend(short, 1_500)]
    yield [extend(long, 2 * HOUR_MS)]
    yield Passes(1_500)
    yield [extend(long, 3 * HOUR_MS)]
    yield [extend(long, 4 * HOUR_MS), ana.deduct(1)]


def refunds(ana: Customer) -> Story:
    """What was spent is given back: in parts, of several at once, to other buckets, to lots that are gone."""
    job = ana.job()
    yield [ana.grant(30, bucket="plan", expires_at_ms=IN_2100_MS, priority=10), ana.grant(30)]
    first = spent((yield [ana.reserve(job, 15), ana.deduct(40)]))
    second = spent((yield [confirm(job, 12)]))
    yield [ana.refund(first, amount=15), ana.deduct(20)]
    yield [ana.refund(second, first, amount=20)]
    yield [ana.refund(first, amount=3, bucket="gifts"), ana.refund(first, amount=2)]


def refunds_that_lapse(ana: Customer) -> Story:
    """What is given back, or was held, comes too late for its lot."""
    job, soon_ms = ana.job(), ana.now_ms + 1_000
    first = spent((
        yield [
            ana.grant(30, bucket="trial", expires_at_ms=soon_ms), ana.grant(5),
            ana.reserve(job, 10, ttl_ms=1_500), ana.deduct(8),
        ]
    ))  # fmt: skip
    yield [ana.deduct(2)]
    yield Passes(1_500)
    yield [ana.refund(first, amount=6), ana.grant(1, bucket="trial")]
    yield [ana.refund(first), ana.deduct(5)]
    yield [ana.grant(3, bucket="trial", priority=7)]


def adjustments(ana: Customer) -> Story:
    """An operator puts right, more than there is too."""
    yield [ana.grant(10, bucket="plan", priority=300), ana.grant(5, bucket="gifts")]
    yield [ana.adjust(7), ana.adjust(-3, bucket="plan")]
    yield [ana.adjust(-100, short="take", bucket="gifts")]
    yield [ana.adjust(9, bucket="new"), ana.configure(overdraft_limit=20)]
    yield [ana.adjust(-33)]
    yield [ana.adjust(-500, short="take"), ana.adjust(12)]


def debts(ana: Customer) -> Story:
    """Whatever comes in repays what is owed first: grants, and what jobs give back to several lots."""
    one, other = ana.job(), ana.job()
    yield [
        ana.grant(10, bucket="plan", expires_at_ms=IN_2100_MS),
        ana.grant(30),
        ana.configure(overdraft_limit=90),
    ]
    yield [ana.reserve(one, 15), ana.reserve(other, 20)]
    yield [ana.deduct(19)]
    yield [cancel(one)]
    yield [ana.deduct(31), ana.configure(overdraft_limit=40)]
    yield [confirm(other, 5), ana.grant(60), ana.deduct(80)]


def settings(ana: Customer) -> Story:
    """Everything that can be set is set, and set back; at last the account is closed."""
    yield [ana.configure(overdraft_limit=70, low_balance=9)]
    yield [ana.grant(10), ana.deduct(50), ana.configure(status="frozen")]
    yield [ana.configure(low_balance=0, overdraft_limit=45), ana.grant(20)]
    yield [ana.configure(status="active", low_balance=3)]
    yield [ana.deduct(15), ana.grant(35), ana.configure(overdraft_limit=0)]
    yield [ana.configure(status="closed")]


def tasks(ana: Customer) -> Story:
    """Tasks are known at once, later, or when the job has ended; what they make is told later still."""
    known, bound, ended = (ana.job() for _ in range(3))
    note = seal(resource="image-2")
    told = {"resource": "image-2", "notes": note.text, "notes_hash": note.hash}
    yield [ana.grant(50), ana.reserve(known, 5, **task_of(known))]
    yield [ana.reserve(bound, 6), ana.reserve(ended, 7)]
    yield [bind(bound), cancel(ended)]
    yield [bind(known, **told)]
    yield [bind(ended, **told)]
    yield [bind(bound, **told), confirm(known)]


def texts(ana: Customer) -> Story:
    """What people wrote beside jobs of the same account, and what they cost by the rate card."""
    noted, plain, failed, gone = (ana.job() for _ in range(4))
    about = {"resource": "image-1", "metadata": {"who": "Ana", "Wörter": '"ß"'}}
    note = seal(None, about["resource"], about["metadata"])
    its = {"notes": note.text, "notes_hash": note.hash, "price": PRICE, "model": "video"}
    why = seal(reason="the job has failed")
    because = {"reason": "the job has failed", "notes": why.text, "notes_hash": why.hash}
    yield [ana.grant(90)]
    yield [ana.reserve(plain, 5), ana.reserve(noted, 30, **about, **its), ana.reserve(gone, 2)]
    yield [ana.reserve(failed, 9, **about, **its), confirm(plain, model="sound")]
    yield [cancel(failed, cause="failed", **because), cancel(gone)]
    yield [extend(noted, 2 * HOUR_MS), ana.deduct(3, price=PRICE, model="video")]
    yield [confirm(noted, 29)]


def crowds(ana: Customer) -> Story:
    """An account has as many buckets as it may: for a new one the oldest empty one is forgotten."""
    yield [*(ana.grant(1, bucket=f"b{number}", priority=10 + number % 3) for number in range(64))]
    yield [ana.deduct(5), ana.grant(1, bucket="b4")]
    yield [ana.grant(2, bucket="new"), ana.deduct(20)]
    yield [*(ana.grant(1, bucket=f"c{number}", priority=9) for number in range(12))]
    yield [ana.deduct(6), ana.grant(1, bucket="b1"), ana.grant(1, bucket="c1")]
    yield [*(ana.grant(1, bucket=f"d{number}") for number in range(9)), ana.deduct(50)]


STORIES = [
    rollovers, priorities, priorities_of_nothing, parts, over_captures, late_confirms, extensions, refunds,
    refunds_that_lapse, adjustments, debts, settings, tasks, texts, crowds,
]  # fmt: skip


CALLS = 6
"""Of each of them."""
