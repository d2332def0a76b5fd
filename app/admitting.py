"""Has a process' Redis admitted before the first request needs it, and again after it was lost."""

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger.acknowledgement import Acknowledgement
from app.ledger.admission import demand_fit_server
from app.ledger.backing import Backing, BackingUnavailable, NotAdmitted, Terms
from app.ledger.headroom import is_memory_short
from app.ledger.ledger import Ledger
from persistence import admission, served
from persistence.pool import Pool

ADMIT_SECONDS = 1.0

log = structlog.get_logger("lastro.api")


async def admitted(acknowledgement: Acknowledgement, guards: Pool, redis: Redis) -> Terms:
    """The terms of a Redis that can keep what its answers promise."""
    await acknowledgement.demand(redis)
    return await admission.admit(guards, redis)


async def keep_admitted(
    ledger: Ledger, backing: Backing, redis: Redis, acknowledgement: Acknowledgement, guards: Pool
) -> None:
    """Have the Redis admitted before the first request needs it, and again after it was lost or replaced; and
    while it is the admitted one, let PostgreSQL know that it is alive.

    One that has become unfit (it may evict now, or its clock was set) is served no longer; one whose memory
    is nearly full takes on nothing new.
    """
    while True:
        terms, alive = ledger.terms, set[str]()
        try:
            if terms is None or terms.refused:  # which may be the right one now, or have caught up
                terms = await backing.admit()
                ledger.adopt(terms)
                alive = served.alive(terms)
            else:
                clock_ms = admission.this_machines_clock_ms()
                servers = await demand_fit_server(redis, terms.ledger, terms.shards, clock_ms)
                await acknowledgement.demand(redis)
                known = [terms.server_of(shard) for shard in range(terms.shards)]
                pairs = [each for each in zip(servers, known, strict=True) if all(each)]
                if all(server == its for server, its in pairs):
                    alive = {server for server, _ in pairs}
                else:
                    ledger.adopt(await backing.admit())
            ledger.heed_memory(is_short=await is_memory_short(redis))
        except NotAdmitted as error:
            if terms is not None:
                log.warning("redis is no longer fit", why=str(error))
            ledger.dismiss(str(error))
        except (BackingUnavailable, RedisError, OSError):
            pass  # whoever asks is told so; nothing is decided by silence
        await asyncio.gather(asyncio.sleep(ADMIT_SECONDS), served.note(guards, alive))
