"""What there is in the model of one shard: Redis, PostgreSQL, the processes, the workers and the wire.

Everything is a tuple, so that a world can be a key of a dictionary. A world says what is so; what may happen
next is in `calls`, `faults`, `admission` and `journal`, one action per function.
"""

from typing import NamedTuple, TypeVar

GENESIS = 0
T = TypeVar("T")


class Rules(NamedTuple):
    """What protects the ledger. Each test switches one off and must see what it was for."""

    lane: bool = True
    """The script answers a call number that it has seen with its reply, and refuses lower ones."""
    same_terms: bool = True
    """A call whose outcome is unknown is never sent again under other terms."""
    incarnation: bool = True
    """The script, the read, the commit and the trim compare the number of the last admission."""
    server: bool = True
    """The script and the read compare the server's own id with that of the admission."""
    link: bool = True
    """Worker and admission demand that entries continue the call that the journal ends with."""
    conditional_commit: bool = True
    """The commit is refused unless the cursor is where it was read; otherwise ON CONFLICT DO NOTHING."""
    lock_of_the_session: bool = True
    """A worker that loses its lock loses the transaction with it: both live on one connection."""
    whole_calls: bool = True
    """A batch of the journal ends where a call ends."""
    stream_is_kept: bool = True
    """The stream keeps what PostgreSQL may lose in a failover: only what its standby has is trimmed."""


class Size(NamedTuple):
    """How much may happen. Worlds are finite because of these."""

    operations: tuple[int, ...] = (2, 1)
    """How many operations each process has to carry; they travel together or apart."""
    workers: int = 1
    sends_max: int = 2
    rollbacks: int = 1
    losses: int = 0
    """How often PostgreSQL may lose its last rows in a failover."""
    restores: int = 0
    incarnations_max: int = 4
    always: bool = False
    """Redis loses nothing: what it comes back with is what it had (AOF `always`)."""


class Entry(NamedTuple):
    """An entry as the stream has it.

    `execution` and `after` are the truth, which nobody in the model can see: which run of the script wrote
    it, and which entry really stood before it.
    """

    operation: int
    nonce: int
    previous: int | None
    execution: int
    after: "tuple[int, int] | None"


Entries = tuple[Entry, ...]


class Lane(NamedTuple):
    """A process' last call, and its reply: the operations that it carried."""

    number: int
    operations: tuple[int, ...]


class Redis(NamedTuple):
    """What a Redis holds of the shard: also what it comes back with after it has lost its last seconds."""

    entries: Entries = ()
    trimmed: int = 0
    incarnation: int = 1
    admitted_server: int = 1
    fenced: bool = False
    lanes: tuple[Lane, ...] = ()

    @property
    def link(self) -> int:
        return self.entries[-1].nonce if self.entries else GENESIS


class Postgres(NamedTuple):
    """The journal. `locked_by`: the process that holds the shard's row, in the middle of an admission."""

    rows: Entries = ()
    incarnation: int = 1
    fenced: bool = False
    locked_by: int | None = None

    @property
    def cursor(self) -> int:
        return len(self.rows)

    @property
    def link(self) -> int:
        return self.rows[-1].nonce if self.rows else GENESIS


class Call(NamedTuple):
    """A call under way. `incarnation` and `server`: the terms that it was first sent under."""

    number: int
    operations: tuple[int, ...]
    incarnation: int
    server: int
    sends: int = 1


class Copy(NamedTuple):
    """A call that sits in the socket buffer of a server that was stopped, and may still be carried out."""

    process: int
    call: Call


class Sighting(NamedTuple):
    """What an admission saw of Redis under the lock; after the commit also the number it was given."""

    server: int
    sequence: int
    link: int
    incarnation: int = 0


class Process(NamedTuple):
    """An API process. `incarnation` 0: it has been refused and has no terms."""

    waiting: tuple[int, ...]
    incarnation: int = 1
    server: int = 1
    number: int = 0
    call: Call | None = None
    sighting: Sighting | None = None


class Worker(NamedTuple):
    """Keeps the journal. `at`: the barrier that it has passed last."""

    at: str = "idle"
    cursor: int = 0
    link: int = GENESIS
    incarnation: int = 0
    batch: Entries = ()


class World(NamedTuple):
    """Everything. `answered`: the operations that were acknowledged; `broken`: what was done wrong."""

    redis: Redis
    durable: Redis
    server: int
    postgres: Postgres
    standby: Postgres
    processes: tuple[Process, ...]
    workers: tuple[Worker, ...]
    wire: frozenset[Copy] = frozenset()
    lock_holder: int | None = None
    executions: int = 0
    rollbacks: int = 0
    losses: int = 0
    restores: int = 0
    restoring: Entries | None = None
    answered: frozenset[int] = frozenset()
    broken: frozenset[str] = frozenset()


Step = tuple[str, World]


def first_world(size: Size) -> World:
    """A ledger that has been born and admitted, and in which nothing has happened."""
    processes, next_operation = [], 0
    for count in size.operations:
        processes.append(Process(tuple(range(next_operation, next_operation + count))))
        next_operation += count
    redis, postgres = Redis(lanes=(Lane(0, ()),) * len(processes)), Postgres()
    return World(redis, redis, 1, postgres, postgres, tuple(processes), (Worker(),) * size.workers)


def put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """A tuple with one item replaced."""
    return (*items[:index], item, *items[index + 1 :])
