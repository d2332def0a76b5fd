"""Redis' half of bringing a shard to what the journal says: closes it, fills it in pages, completes it.

A shard is closed while it is loaded: no call is let in, and every page is written only if the server and the
meta are still those that were closed. All values are absolute, so that whoever was stopped begins again.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct, field
from redis.asyncio import Redis

from app.ledger import keys, scripts
from app.ledger.judgement import Sighting
from app.ledger.replies import Account, Reservation
from app.ledger.running import run

WORDS_MAX = 500
"""Of one command: Lua's stack ends."""

REMEMBER_MS = 86_400_000
"""As `lua/parts/book.lua` has it."""

Word = str | bytes | int

_encode = msgspec.json.encode


class Record(Struct, frozen=True):
    """An operation that was applied under a key, of an account (`a`) or of a reservation (`r`)."""

    subject: Literal["a", "r"]
    id: str
    key: str
    fingerprint: str
    sequence: int
    forgotten_at_ms: int


class Binding(Struct, frozen=True):
    """A provider's task, and the reservation that it belongs to. `shard` is the task's."""

    shard: int
    provider: str | None
    task: str
    reservation: str
    forgotten_at_ms: int


class Refunded(Struct, frozen=True):
    """How much of a transaction was given back so far."""

    transaction: str
    total: int
    forgotten_at_ms: int


class _Stored(Struct):
    """A record as the script stores it."""

    fingerprint: str = field(name="f")
    sequence: int = field(name="s")


class Moved(Exception):
    """The shard is no longer as it was left. What was written of it so far is never served; begin again."""


class Beyond(Exception):
    """An earlier load was to go further than the journal reaches now, and may have written some of it."""


class Closed(NamedTuple):
    """A shard that nobody is let into but its loader. `server`: whose pages belong together; `loader`: whose
    pages they are, so that what another one still has to send comes too late.
    """

    ledger: str
    shard: int
    server: str
    loader: str = ""


class Page:
    """What is written into one shard at once."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._texts: list[Word] = []
        self._due: list[Word] = []
        self._not_due: list[Word] = []
        self._removed: list[Word] = []
        self._others: list[list[Word]] = []

    def account(self, id_: str, account: Account) -> None:
        """The balance, and when a lot of it lapses."""
        self._texts += [keys.account(self._shard, id_), _encode(account)]
        if account.lapses_at_ms:
            self._due += [account.lapses_at_ms, f"account:{id_}"]
        else:
            self._not_due.append(f"account:{id_}")

    def reservation(self, reservation: Reservation) -> None:
        """A hold with its deadline; one that has ended is forgotten a day later."""
        name = keys.reservation(self._shard, reservation.id)
        holds = keys.holds(self._shard, reservation.account)
        member = f"reservation:{reservation.id}:{reservation.account}"
        if reservation.settled_at_ms is None:
            self._texts += [name, _encode(reservation)]
            self._due += [reservation.expires_at_ms, member]
            self._others.append(["ZADD", holds, reservation.expires_at_ms, reservation.id])
        else:
            self._text(name, _encode(reservation), reservation.settled_at_ms + REMEMBER_MS)
            self._not_due.append(member)
            self._others.append(["ZREM", holds, reservation.id])

    def no_reservation(self, id_: str, account: str) -> None:
        """An account has no such hold, and what stands under its name is to go."""
        self._removed.append(keys.reservation(self._shard, id_))
        self._not_due.append(f"reservation:{id_}:{account}")
        self._others.append(["ZREM", keys.holds(self._shard, account), id_])

    def record(self, record: Record) -> None:
        """What was answered to a key."""
        name = keys.operation(self._shard, record.subject, record.id, record.key)
        text = _encode(_Stored(record.fingerprint, record.sequence))
        self._text(name, text, record.forgotten_at_ms)

    def refunded(self, refunded: Refunded) -> None:
        """What nobody is given a second time."""
        name = keys.refunded(self._shard, refunded.transaction)
        self._text(name, str(refunded.total), refunded.forgotten_at_ms)

    def binding(self, binding: Binding) -> None:
        """A task of this shard."""
        name = keys.task(self._shard, binding.provider, binding.task)
        self._text(name, binding.reservation, binding.forgotten_at_ms)

    def _text(self, name: str, text: str | bytes, forgotten_at_ms: int) -> None:
        self._others.append(["SET", name, text, "PXAT", forgotten_at_ms])

    def entry(self, sequence: int, text: str, notes: str | None) -> None:
        """The next entry of the stream."""
        beside = [] if notes is None else ["notes", notes]
        self._others.append(["XADD", keys.journal(self._shard), f"{sequence}-0", "entry", text, *beside])

    def removed(self, names: Iterable[str | bytes]) -> None:
        """Keys that are to go, before anything of this page is written."""
        self._removed += names

    def meta(self, **fields: Word) -> None:
        """Fields of the meta."""
        words: list[Word] = [each for pair in fields.items() for each in pair]
        self._others.append(["HSET", keys.meta(self._shard), *words])

    def without_meta(self, *fields: str) -> None:
        """Fields of the meta that are to go."""
        self._others.append(["HDEL", keys.meta(self._shard), *fields])

    def commands(self) -> list[Sequence[Word]]:
        """In the order in which they are carried out."""
        due = keys.due(self._shard)
        return [
            *_cut(["UNLINK"], self._removed),
            *_cut(["MSET"], self._texts),
            *_cut(["ZREM", due], self._not_due),
            *_cut(["ZADD", due], self._due),
            *self._others,
        ]


def _cut(command: list[Word], words: list[Word]) -> list[Sequence[Word]]:
    return [command + words[first : first + WORDS_MAX] for first in range(0, len(words), WORDS_MAX)]


async def close(redis: Redis, closed: Closed, why: str) -> Closed:
    """Begin to load a shard anew. Its meta is replaced by one without a sequence.

    Raises:
        Moved: Another server answers, or another ledger lives there.
    """
    return await _close(redis, closed, ["", "", "", why])


async def close_behind(redis: Redis, ledger: str, shard: int, sighting: Sighting, goal: int) -> Closed:
    """Begin to load what follows the sequence that was sighted, up to `goal`.

    Raises:
        Moved: The shard is no longer as it was sighted.
        Beyond: See there.
    """
    closed = Closed(ledger, shard, sighting.server)
    return await _close(redis, closed, [sighting.sequence, sighting.link, goal, ""])


async def _close(redis: Redis, closed: Closed, arguments: list[str | int]) -> Closed:
    names = [keys.meta(closed.shard)]
    arguments = [closed.ledger, closed.server, *arguments, closed.loader]
    verdict = await run(redis, scripts.load("close"), names, arguments)
    if verdict == b"beyond":
        raise Beyond
    if verdict != b"closed":
        raise Moved(f"Shard {closed.shard} is no longer as it was seen.")
    return closed


async def load(redis: Redis, closed: Closed, page: Page, *, sequence: int | None = None) -> None:
    """Write a page.

    Args:
        redis: As when the shard was closed.
        closed: By `close` or `close_behind`.
        page: Of that shard.
        sequence: What the meta has; `None` while it has none.

    Raises:
        Moved: Nothing of the page was written.
    """
    words: list[Word] = [closed.ledger, closed.server, "" if sequence is None else sequence, closed.loader]
    for command in page.commands():
        words.append(len(command))
        words += command
    if await run(redis, scripts.load("load"), [keys.meta(closed.shard)], words) != b"loaded":
        raise Moved(f"Redis was replaced or changed by somebody else while shard {closed.shard} was loaded.")


async def bind(redis: Redis, binding: Binding) -> None:
    """Bring back the binding of a task in a shard that may be served, unless another reservation has it by
    now. One that is there is not forgotten sooner than it was going to be.
    """
    name = keys.task(binding.shard, binding.provider, binding.task)
    await run(redis, scripts.load("rebind"), [name], [binding.reservation, binding.forgotten_at_ms])


async def unbind(redis: Redis, shard: int, provider: str | None, task: str, reservation: str) -> None:
    """Let go of a task, if it still belongs to `reservation`, which is no more."""
    await run(redis, scripts.load("unbind"), [keys.task(shard, provider, task)], [reservation])
