"""What goes wrong: Redis goes back, PostgreSQL loses its tail, a worker loses its lock."""

from collections.abc import Iterator

from tests.model.world import Rules, Size, Step, Worker, World, put


def becomes_durable(world: World, _: Rules, size: Size) -> Iterator[Step]:
    """The AOF is synced, or the replica has caught up."""
    if world.durable != world.redis and world.rollbacks < size.rollbacks:
        yield "Redis' image becomes durable", world._replace(durable=world.redis)


def redis_goes_back(world: World, _: Rules, size: Size) -> Iterator[Step]:
    """A crash, or a failover, or a demotion and promotion under connections that survive it."""
    if world.rollbacks < size.rollbacks:
        count = len(world.durable.entries)
        back = world._replace(redis=world.durable, server=world.server + 1, rollbacks=world.rollbacks + 1)
        yield f"REDIS GOES BACK to {count} entries and is another server", back


def the_journal_reaches_the_standby(world: World, _: Rules, size: Size) -> Iterator[Step]:
    if world.standby != world.postgres and world.postgres.locked_by is None:
        yield "PostgreSQL's standby catches up", world._replace(standby=world.postgres)


def postgres_loses_its_tail(world: World, _: Rules, size: Size) -> Iterator[Step]:
    """A standby that has not everything is promoted; every transaction under way is gone."""
    workers = tuple(worker if worker.at == "after commit" else Worker() for worker in world.workers)
    if world.losses < size.losses and world.standby != world.postgres:
        yield (
            f"POSTGRESQL GOES BACK to {world.standby.cursor} rows",
            world._replace(
                postgres=world.standby, losses=world.losses + 1, lock_holder=None,
                workers=workers,
                processes=tuple(process._replace(sighting=None) for process in world.processes),
            ),
        )  # fmt: skip


def a_worker_loses_its_lock(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """The connection that holds the lock breaks; with it, where they are one, the transaction."""
    who = world.lock_holder
    if who is None or world.workers[who].at == "idle":
        return
    free = world._replace(lock_holder=None)
    if rules.lock_of_the_session and world.workers[who].at != "after commit":
        free = free._replace(workers=put(world.workers, who, Worker()))
    yield f"worker {who} loses its lock", free
