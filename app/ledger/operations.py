"""What can be asked of the script: pure data, one struct per file under `lua/operations/`.

A test holds the fields here and the header there equal. `shard`, `task_shard`, `claimed_until_ms` and `bound`
are filled in by the ledger.
Amounts are 1 .. 2^53 - 1; times are milliseconds. Operations travel in JSON with their names and without
their defaults. `key` and `fingerprint` come together or not at all.
"""

from typing import Literal

from msgspec import Struct

from app.ledger.backing import Extent
from app.ledger.replies import Lot, Reservation


class Operation(Struct, kw_only=True, omit_defaults=True, tag_field="verb", tag=str.lower):
    """What all have in common. `by` is `key:<name>`, `user:<sub>`, `webhook:<provider>`, `dashboard:<name>`
    (of a key) or `system`.
    """

    shard: int = -1
    by: str = "system"


def verb_of(operation: type[Operation]) -> str:
    """The word of an operation in Lua and HTTP, and for whoever counts."""
    return str(operation.__struct_config__.tag)


class Write(Operation, kw_only=True):
    """What a caller may repeat under a key. `notes` and `notes_hash` come from `entries.seal`. `journaled`:
    how far the journal was when it was asked for the key, or for what was given back before; the ledger sets
    it.
    """

    key: str | None = None
    fingerprint: str | None = None
    notes: str | None = None
    notes_hash: str | None = None
    journaled: Extent | None = None


OverCapture = Literal["reject", "cap", "charge"]
OnExpired = Literal["reject", "charge"]


class Grant(Write, kw_only=True, tag="grant"):
    """Add credits to a bucket. `rollover`: so many at most of the bucket's credits that lapse earlier move
    along to the new lot. `open`: the account may be made; only the ledger sets it.
    """

    account: str
    amount: int
    bucket: str = "default"
    priority: int | None = None
    expires_at_ms: int = 0
    rollover: int = 0
    open: bool = False


class Deduct(Write, kw_only=True, tag="deduct"):
    """Spend credits at once. `price`: what the amount was computed from, as text of an `entries.Price`."""

    account: str
    amount: int
    model: str | None = None
    price: str | None = None


class Reserve(Write, kw_only=True, tag="reserve"):
    """Set credits aside until the job is confirmed, cancelled or out of time. `ttl_ms` 1,000 .. 86,400,000.

    `resource` and `metadata` are repeated here because a reservation shows them; the journal keeps them in
    notes.
    """

    account: str
    reservation: str
    amount: int
    ttl_ms: int = 1_800_000
    holds_max: int = 10_000
    task: str | None = None
    provider: str | None = None
    task_shard: int = -1
    claimed_until_ms: int | None = None
    bound: str | None = None
    resource: str | None = None
    model: str | None = None
    metadata: dict[str, str] | None = None
    over_capture: OverCapture = "reject"
    on_expired: OnExpired = "reject"
    price: str | None = None


class Confirm(Write, kw_only=True, tag="confirm"):
    """Spend what a reservation holds, or a part of it. `amount` `None`: all that is held.

    `final`: the rest is released; otherwise it stays held, and there must be a `key`. The policies are the
    reservation's where they are `None`.
    """

    reservation: str
    amount: int | None = None
    final: bool = True
    over_capture: OverCapture | None = None
    on_expired: OnExpired | None = None
    account: str | None = None
    model: str | None = None


class Cancel(Write, kw_only=True, tag="cancel"):
    """Give back what a reservation holds."""

    reservation: str
    cause: Literal["requested", "failed"] = "requested"
    reason: str | None = None
    account: str | None = None


class Extend(Write, kw_only=True, tag="extend"):
    """Move the deadline of a reservation to `ttl_ms` (1,000 .. 86,400,000) from now. `task_shard`: where its
    task is kept, if it has one.
    """

    reservation: str
    ttl_ms: int
    task_shard: int = -1
    claimed_until_ms: int | None = None
    bound: str | None = None
    account: str | None = None


class Original(Struct, kw_only=True, omit_defaults=True):
    """A transaction that spent credits, for whoever gives them back.

    `left` has what left which lot, as bucket, expiry (milliseconds, 0: never) and credits, in the order of
    its legs; `refunded` is what the journal knows to have been given back.
    """

    transaction: str
    left: list[tuple[str, int, int]]
    refunded: int = 0
    reservation: str | None = None
    task: str | None = None
    provider: str | None = None
    model: str | None = None


class Refund(Write, kw_only=True, tag="refund"):
    """Give back what `originals` spent, the first of them first. `amount` `None`: all that is left of them.

    `bucket`: there instead of the lots that it came from. `refusal`: nothing was spent by what was named, and
    these are the facts of it; so that this answer too is kept under the key.
    """

    account: str
    originals: list[Original]
    amount: int | None = None
    bucket: str | None = None
    refusal: dict[str, str] | None = None


class Adjust(Write, kw_only=True, tag="adjust"):
    """Put right what an operator knows better. `amount` is signed; `bucket` `None`: what comes in goes to
    `default`, what is taken is taken in spending order. `short`: what happens when there is not enough.
    """

    account: str
    amount: int
    bucket: str | None = None
    short: Literal["reject", "take"] = "reject"


class Configure(Write, kw_only=True, tag="configure"):
    """Change settings of an account; what is `None` stays. `open` as for a grant."""

    account: str
    overdraft_limit: int | None = None
    status: Literal["active", "frozen", "closed"] | None = None
    low_balance: int | None = None
    open: bool = False


class Bind(Write, kw_only=True, tag="bind"):
    """Name the provider's task (and the caller's resource) that a reservation pays for."""

    reservation: str
    task: str
    provider: str | None = None
    task_shard: int = -1
    claimed_until_ms: int | None = None
    bound: str | None = None
    resource: str | None = None
    account: str | None = None


class Balance(Operation, kw_only=True, tag="balance"):
    """Read an account; `open`: with its pending reservations, in the same execution."""

    account: str
    open: bool = False


class Find(Operation, kw_only=True, tag="find"):
    """Read a reservation by its id."""

    reservation: str


class Locate(Operation, kw_only=True, tag="locate"):
    """Read which reservation a provider's task belongs to. `shard` is the task's."""

    task: str
    provider: str | None = None


class Claim(Operation, kw_only=True, tag="claim"):
    """Keep a task for a reservation that lives in another shard, for `keep_ms` (0: give it up). For
    `young_ms` nobody can tell whether that will be made; meanwhile the same `request` goes on with it.
    `shard` is the task's. `instead_of` has it and was never made.
    """

    task: str
    reservation: str
    keep_ms: int
    young_ms: int = 0
    request: str | None = None
    provider: str | None = None
    instead_of: str | None = None


class Trace(Operation, kw_only=True, tag="trace"):
    """Read an entry that the stream still has."""

    sequence: int


class Sweep(Operation, kw_only=True, tag="sweep"):
    """Let time pass in a shard: answered when everything due has happened."""


class Fence(Operation, kw_only=True, tag="fence"):
    """Make one account refuse, alone, until it is repaired."""

    account: str
    reason: str


class Repair(Write, kw_only=True, tag="repair"):
    """Put back what the journal says of an account and of some of its reservations.

    `found` is the version that Redis was seen to have (-1: nothing, or nothing readable): if it is another
    one by now, nothing is written. `strays`: ids of reservations that the journal has never heard of.
    `refunded`: transactions, and how much of each was given back.
    `fence`: why the account still refuses, because more of it is going to be repaired.
    """

    account: str
    found: int
    version: int
    available: int
    held: int
    lots: list[Lot]
    overdraft_limit: int = 0
    status: Literal["active", "frozen", "closed"] = "active"
    low_balance: int = 0
    open_holds: int = 0
    reservations: list[Reservation] = []
    strays: list[str] = []
    refunded: list[tuple[str, int]] = []
    fence: str | None = None
