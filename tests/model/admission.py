"""A Redis server is admitted, not checked; what cannot be admitted is fenced, and restored."""

from collections.abc import Iterator

from tests.model.world import (
    GENESIS,
    Lane,
    Postgres,
    Process,
    Redis,
    Rules,
    Sighting,
    Size,
    Step,
    World,
    put,
)

NOBODY = 0
"""The number under which nobody is ever admitted."""


def adopts_the_terms(world: World, _: Rules, __: Size) -> Iterator[Step]:
    """A refused process finds that somebody else has admitted the server."""
    redis, postgres = world.redis, world.postgres
    if redis.fenced or postgres.fenced or redis.incarnation != postgres.incarnation:
        return
    if redis.admitted_server != world.server:
        return
    for who, process in enumerate(world.processes):
        if not process.incarnation and not process.sighting:
            terms = process._replace(incarnation=redis.incarnation, server=world.server)
            yield f"process {who} adopts incarnation {redis.incarnation}", _with(world, who, terms)


def looks_under_the_lock(world: World, rules: Rules, size: Size) -> Iterator[Step]:
    """Barrier `after lock`: the shard's row is locked, Redis has been looked at and judged."""
    postgres = world.postgres
    if postgres.fenced or postgres.locked_by is not None or postgres.incarnation >= size.incarnations_max:
        return
    for who, process in enumerate(world.processes):
        if process.incarnation or process.sighting:
            continue
        if is_prefix(world.redis, postgres, rules):
            caught_up = world.redis._replace(entries=postgres.rows, incarnation=NOBODY)
            yield f"process {who} rolls forward under the lock", world._replace(redis=caught_up)
            continue
        if fault(world.redis, postgres, rules):
            yield f"process {who} looks under the lock: FENCED", fenced(world)
            continue
        seen = Sighting(world.server, len(world.redis.entries), world.redis.link)
        locked = world._replace(postgres=postgres._replace(locked_by=who))
        yield f"process {who} looks under the lock: good", _with(locked, who, process._replace(sighting=seen))


def commits_the_admission(world: World, _: Rules, __: Size) -> Iterator[Step]:
    """Barrier `after commit`: PostgreSQL has a higher incarnation, Redis not yet."""
    who = world.postgres.locked_by
    if who is None:
        return
    process = world.processes[who]
    assert process.sighting
    number = max(world.postgres.incarnation, world.redis.incarnation) + 1
    raised = world.postgres._replace(incarnation=number, locked_by=None)
    numbered = process._replace(sighting=process.sighting._replace(incarnation=number))
    yield f"process {who} commits incarnation {number}", _with(world._replace(postgres=raised), who, numbered)


def writes_the_admission(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """A script writes the number into meta, if the server is still as it was seen."""
    redis = world.redis
    for who, process in enumerate(world.processes):
        seen = process.sighting
        if not seen or not seen.incarnation:
            continue
        begin_again = process._replace(sighting=None)
        unmoved = len(redis.entries) == seen.sequence and (redis.link == seen.link or not rules.link)
        if redis.fenced or world.server != seen.server or not unmoved or redis.incarnation > seen.incarnation:
            yield f"process {who} cannot write the admission: moved", _with(world, who, begin_again)
            continue
        admitted = redis._replace(incarnation=seen.incarnation, admitted_server=seen.server)
        terms = begin_again._replace(incarnation=seen.incarnation, server=seen.server)
        yield (
            f"process {who} writes incarnation {seen.incarnation} into Redis",
            _with(world._replace(redis=admitted), who, terms),
        )


def restores(world: World, _: Rules, size: Size) -> Iterator[Step]:
    """Three steps, and it may be cut off after each: raise the number, load from the journal, open."""
    postgres = world.postgres
    if not postgres.fenced or postgres.locked_by is not None:
        return
    if world.restoring is None:
        if world.restores < size.restores and postgres.incarnation < size.incarnations_max:
            raised = postgres._replace(incarnation=postgres.incarnation + 1)
            begun = world._replace(
                postgres=raised, redis=world.redis._replace(fenced=True), restores=world.restores + 1,
                restoring=postgres.rows,
            )  # fmt: skip
            yield "RESTORE raises the incarnation", begun
        return
    rows = world.restoring
    loaded = Redis(
        rows, len(rows), postgres.incarnation, world.server, fenced=True,
        lanes=(Lane(0, ()),) * len(world.processes),
    )  # fmt: skip
    if world.redis != loaded:
        yield "RESTORE loads what the journal has", world._replace(redis=loaded)
        return
    opened = loaded._replace(fenced=False)
    yield (
        "RESTORE opens",
        world._replace(
            redis=opened, durable=opened, postgres=postgres._replace(fenced=False), restoring=None
        ),
    )


def is_prefix(redis: Redis, postgres: Postgres, rules: Rules) -> bool:
    """Whether Redis is merely behind. By its last link: nobody compares what comes before."""
    count = len(redis.entries)
    if redis.fenced or count >= postgres.cursor:
        return False
    return not rules.link or redis.link == (postgres.rows[count - 1].nonce if count else GENESIS)


def fault(redis: Redis, postgres: Postgres, rules: Rules) -> bool:
    """Whether what Redis shows does not go on from where the journal stands."""
    cursor = postgres.cursor
    if redis.fenced or len(redis.entries) < cursor or redis.trimmed > cursor:
        return True
    if not rules.link:
        return False
    if len(redis.entries) == cursor:
        return redis.link != postgres.link
    return redis.entries[cursor].previous != postgres.link


def fenced(world: World) -> World:
    """Redis and PostgreSQL both refuse."""
    return world._replace(
        redis=world.redis._replace(fenced=True), postgres=world.postgres._replace(fenced=True)
    )


def _with(world: World, who: int, process: Process) -> World:
    return world._replace(processes=put(world.processes, who, process))
