"""Workers move entries from the stream into PostgreSQL: cursor, read, commit, trim, in this order."""

from collections.abc import Iterator

from tests.model.admission import fault, fenced
from tests.model.world import Entries, Postgres, Redis, Rules, Size, Step, Worker, World, put


def reads_the_cursor(world: World, _: Rules, __: Size) -> Iterator[Step]:
    """Barrier `after cursor`: the worker has the lock and knows where the journal stands."""
    postgres = world.postgres
    if postgres.fenced or world.lock_holder is not None:
        return
    if world.redis.entries == postgres.rows:
        return
    for who, worker in enumerate(world.workers):
        if worker.at == "idle":
            begun = Worker("after cursor", postgres.cursor, postgres.link, postgres.incarnation)
            locked = world._replace(lock_holder=who)
            yield f"worker {who} reads the cursor: {postgres.cursor}", _with(locked, who, begun)


def reads_the_stream(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """Barrier `after read`: whole calls after the cursor, which continue the link."""
    redis = world.redis
    for who, worker in enumerate(world.workers):
        if worker.at != "after cursor":
            continue
        if (rules.incarnation and redis.incarnation != worker.incarnation) or redis.fenced:
            yield f"worker {who} is refused by Redis", _let_go(world, who)
            continue
        if rules.server and redis.admitted_server != world.server:
            yield f"worker {who} is refused by Redis", _let_go(world, who)
            continue
        stands = Postgres(world.postgres.rows[: worker.cursor])
        if len(stands.rows) < worker.cursor or fault(redis, stands, rules):
            if world.postgres.locked_by is None and fault(redis, world.postgres, rules):
                yield f"worker {who} looks again under the lock: FENCED", _let_go(fenced(world), who)
            else:
                yield f"worker {who} has another cursor than PostgreSQL", _let_go(world, who)
            continue
        pieces = batches(redis, worker.cursor, rules)
        if not pieces:
            yield f"worker {who} finds nothing new", _let_go(world, who)
        for batch in pieces:
            read = worker._replace(at="after read", batch=batch)
            yield f"worker {who} reads {len(batch)} entries after {worker.cursor}", _with(world, who, read)


def batches(redis: Redis, cursor: int, rules: Rules) -> list[Entries]:
    """What may be read at once: up to the end of any call."""
    entries = redis.entries
    found = []
    for end in range(cursor + 1, len(entries) + 1):
        inside = end < len(entries) and entries[end].nonce == entries[end - 1].nonce
        if not (inside and rules.whole_calls):
            found.append(entries[cursor:end])
    return found


def commits_the_batch(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """Barrier `after commit`: rows and cursor have moved together, or nothing has."""
    postgres = world.postgres
    for who, worker in enumerate(world.workers):
        if worker.at != "after read" or postgres.locked_by is not None:
            continue
        if (rules.incarnation and postgres.incarnation != worker.incarnation) or postgres.fenced:
            yield f"worker {who} may not commit: another incarnation", _let_go(world, who)
            continue
        end = worker.cursor + len(worker.batch)
        done = worker._replace(at="after commit", cursor=end, batch=())
        if postgres.cursor == worker.cursor:
            rows = postgres.rows + worker.batch
            yield f"worker {who} commits up to {end}", _commit(world, who, done, rows)
        elif rules.conditional_commit:
            yield f"worker {who} may not commit: the cursor has moved", _let_go(world, who)
        else:
            ignored = postgres.rows[worker.cursor : end]
            rows = postgres.rows[: max(end, postgres.cursor)] + worker.batch[len(ignored) :]
            after = _commit(world, who, done, rows)
            if ignored != worker.batch[: len(ignored)]:
                after = after._replace(broken=after.broken | {"CONFLICT_HIDDEN"})
            if postgres.cursor > end:
                after = after._replace(broken=after.broken | {"CURSOR_WENT_BACK"})
            yield f"worker {who} commits up to {end}, conflicts ignored", after


def trims_behind(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """The stream loses what the journal has."""
    redis, postgres = world.redis, world.postgres
    for who, worker in enumerate(world.workers):
        if worker.at != "after commit":
            continue
        if rules.incarnation and redis.incarnation != worker.incarnation:
            yield f"worker {who} may not trim: another incarnation", _let_go(world, who)
            continue
        end = min(worker.cursor, world.standby.cursor) if rules.stream_is_kept else worker.cursor
        trimmed = max(redis.trimmed, min(end, len(redis.entries)))
        after = world._replace(redis=redis._replace(trimmed=trimmed))
        if redis.entries[redis.trimmed : trimmed] != postgres.rows[redis.trimmed : trimmed]:
            after = after._replace(broken=after.broken | {"TRIMMED_UNJOURNALED"})
        yield f"worker {who} trims up to {trimmed}", _let_go(after, who)


def _commit(world: World, who: int, worker: Worker, rows: Entries) -> World:
    return _with(world._replace(postgres=world.postgres._replace(rows=rows)), who, worker)


def _let_go(world: World, who: int) -> World:
    holder = None if world.lock_holder == who else world.lock_holder
    return _with(world._replace(lock_holder=holder), who, Worker())


def _with(world: World, who: int, worker: Worker) -> World:
    return world._replace(workers=put(world.workers, who, worker))
