"""Carries one call at a time to the script, from its first sending until its outcome is known.

A call whose outcome is unknown (the connection broke, no answer came) is repeated under the same number: the
script answers a number it has seen with the reply it gave. It is never repeated under other terms, because a
Redis that was admitted anew may have forgotten the lane. Errors with which Redis says that nothing ran are
told apart.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Sequence

import msgspec
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from app.ledger import keys, replies
from app.ledger.backing import NotAdmitted, Terms
from app.ledger.calls import CAUSES, SCRIPT_FAULT, UNKNOWN, WAIT, Call, code_of
from app.ledger.clock import Clock
from app.ledger.connection import node_of
from app.ledger.errors import InternalError, LedgerUnavailable
from app.ledger.flight import Flight
from app.ledger.lasting import is_overtaken
from app.ledger.operations import verb_of
from app.ledger.replicas import Answered, Replicas
from app.ledger.replies import Declined, Reply
from app.ledger.serving import cause_of
from app.ledger.shared import Shared
from app.ledger.tickets import Ticket, fail, shards_of
from app.ledger.waiting import Waiting

log = logging.getLogger(__name__)

CALL_DEADLINE_MS = 30_000
"""How long a call that is under way may still be carried out, on Redis' clock; far below a lane's life."""

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.01, 0.25

_encode = msgspec.json.Encoder().encode


class Carrier:
    """A lane of this process: the number of its last call, and where it is kept.

    Args:
        clock: Of the server that it calls.
        waiting: Those whose call comes later. What has to travel again is put back there.
        shard: Where the lane is kept, beside all that it calls for where that is one shard.
    """

    def __init__(
        self, shared: Shared, clock: Clock, waiting: Waiting, replicas: Replicas | None, shard: int
    ) -> None:
        self.serving = shared.serving
        self.clock = clock
        self.tally = shared.tally
        self._redis = shared.redis
        self._script = shared.script
        self._limits = shared.limits
        self._waiting = waiting
        self._replicas = replicas
        self._shard = shard
        self._lane = self._new_lane()
        self._number = 0

    def _new_lane(self) -> str:
        return keys.lane(self._shard, secrets.token_hex(8))

    async def carry(self, tickets: Sequence[Ticket]) -> None:
        """Send one call until its outcome is known or its requests have run out of time."""
        self._number += 1
        flight, pause = Flight(self._number, tickets), PAUSE_SECONDS_MIN
        while flight.is_awaited():
            if await self._attempt(flight):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _attempt(self, flight: Flight) -> bool:
        """Send the call once. Returns whether that was the end of it."""
        try:
            terms = self.serving.terms or await self.serving.admit()
        except NotAdmitted as error:
            flight.fail(LedgerUnavailable, str(error), **cause_of(error))
            return True
        except UNKNOWN as error:  # nothing was sent
            log.warning("redis did not answer", extra={"error": repr(error), "number": flight.number})
            return False
        if flight.unknown and terms != flight.sent_under:
            flight.fail(LedgerUnavailable, "the answer was lost with the server")
            return True
        if terms.fences and not flight.unknown:
            flight.turn_away(terms.fences)
            if not flight.tickets:
                return True
        flight.sent_under = terms
        try:
            return self._heard(flight, await self._send(flight, terms))
        except NoScriptError:
            await self._load()
            return False
        except UNKNOWN as error:
            flight.unknown = flight.unknown or not isinstance(error, BusyLoadingError)
            self.tally.unanswered += 1
            log.warning("redis did not answer", extra={"error": repr(error), "number": flight.number})
            return False
        except RedisError as error:
            if code_of(error) in WAIT:
                return False
            await self._not_run(flight, error)
            return True

    def _heard(self, flight: Flight, reply: Reply) -> bool:
        """Take in what the script answered. Returns whether the call is over."""
        if self.clock.set(reply.now_ms) > CALL_DEADLINE_MS:
            self._doubt_keys(flight, reply)
        if reply.status == "ok":
            answered: Iterable[Answered] = zip(flight.tickets, reply.results, strict=True)
            if self._replicas is not None:
                assert flight.sent_under is not None
                server = flight.sent_under.server_of(self._shard)
                answered = self._replicas.hold(answered, reply, server, self._lane)
            self._deliver(answered, reply)
            return True
        if reply.status == "stale":
            self._lane = self._new_lane()
            flight.fail(LedgerUnavailable, "another call has overtaken this one")
            return True
        if reply.status == "not_admitted":
            self.serving.dismiss(reply.detail)
        return False

    def _doubt_keys(self, flight: Flight, reply: Reply) -> None:
        """Time went on by more than this process knew: the machine stood still, or Redis' clock was set. Keys
        that were young when they were looked at may be older than what Redis remembers. Whoever sent one is
        asked to repeat it, and the journal is asked first; so are all that wait with it.
        """
        unheard = () if reply.status == "ok" else flight.tickets
        if any(is_overtaken(each.operation, self.clock.now_ms) for each in (*unheard, *self._waiting)):
            why = "time has gone on by more than this process knew"
            fail(unheard, why)
            self._waiting.fail(why)

    async def _send(self, flight: Flight, terms: Terms) -> Reply:
        await self.clock.know()
        operations = [ticket.operation for ticket in flight.tickets]
        shards = {shard for operation in operations for shard in shards_of(operation)}
        incarnations = terms.incarnations
        call = Call(
            terms.ledger,
            terms.server_of(self._shard),
            secrets.token_urlsafe(12),
            flight.number,
            self.clock.now_ms() + CALL_DEADLINE_MS,
            [(shard, incarnations[shard]) for shard in shards],
            self._limits.backlog_max,
            self._limits.backlog_bytes_max,
            operations,
            flight.atomic,
        )
        began = time.perf_counter()
        answered = await self._redis.execute_command(  # type: ignore[no-untyped-call]
            "EVALSHA",
            self._script.sha,
            len(shards) + 1,
            self._lane,
            *[keys.meta(shard) for shard in shards],
            _encode(call),
        )
        self.tally.call(len(operations), time.perf_counter() - began)
        return replies.decode(answered)

    async def _load(self) -> None:
        try:
            node = await node_of(self._redis, self._lane)
            await self._redis.execute_command("SCRIPT LOAD", self._script.text, **node.only)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            log.warning("redis did not take the script", extra={"error": repr(error)})

    async def _not_run(self, flight: Flight, error: RedisError) -> None:
        """Redis said that the call as a whole failed and nothing of it was written.

        When an earlier copy may still be on its way, no part of it is sent under another number.
        """
        tickets = flight.tickets
        code = code_of(error)
        if not flight.unknown and code in CAUSES:
            log.warning("redis takes no writes", extra={"error": str(error), "code": code})
            flight.fail(LedgerUnavailable, f"{code} {error}", cause=CAUSES[code])
        elif flight.unknown or code not in SCRIPT_FAULT:
            flight.fail(LedgerUnavailable, f"{code} {error}")
        elif len(tickets) == 1 or flight.atomic:
            verb = "batch" if flight.atomic else verb_of(type(tickets[0].operation))
            log.error("the script failed", extra={"error": str(error), "verb": verb})
            flight.fail(InternalError, str(error))
        else:
            middle = len(tickets) // 2
            await self.carry(tickets[:middle])
            await self.carry(tickets[middle:])

    def _deliver(self, answered: Iterable[Answered], reply: Reply) -> None:
        """Hand out the answers; what must wait for time to pass goes to the front of the queue."""
        later: list[Ticket] = []
        for ticket, result in answered:
            if type(result) is Declined and result.word == "later":
                later.append(ticket)
            elif not ticket.answer.done():
                ticket.answer.set_result((result, reply))
        self._waiting.put_back(later)
