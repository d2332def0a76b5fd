"""Processes send calls; the script carries them out."""

from collections.abc import Iterator

from tests.model.world import Call, Copy, Entry, Lane, Redis, Rules, Size, Step, World, put


def carries_a_call(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """A process takes some of what waits, gives it the next number and sends it."""
    for who, process in enumerate(world.processes):
        if process.call or not process.incarnation or process.sighting:
            continue
        for count in range(1, len(process.waiting) + 1):
            call = Call(process.number + 1, process.waiting[:count], process.incarnation, process.server)
            begun = process._replace(number=call.number, waiting=process.waiting[count:], call=call)
            sent = world._replace(processes=put(world.processes, who, begun))
            what = f"process {who} sends call {call.number} with {list(call.operations)}"
            yield from _arrives(what, sent, who, rules)


def repeats_its_call(world: World, rules: Rules, size: Size) -> Iterator[Step]:
    """No answer came: the same call goes out under the same number."""
    for who, process in enumerate(world.processes):
        call = process.call
        if not call or call.sends >= size.sends_max or not process.incarnation or process.sighting:
            continue
        if (process.incarnation, process.server) != (call.incarnation, call.server):
            if rules.same_terms:
                continue
            call = call._replace(incarnation=process.incarnation, server=process.server)
        again = process._replace(call=call._replace(sends=call.sends + 1))
        sent = world._replace(processes=put(world.processes, who, again))
        yield from _arrives(f"process {who} repeats call {call.number}", sent, who, rules)


def gives_up_its_call(world: World, _: Rules, __: Size) -> Iterator[Step]:
    """The requests have run out of time: 503, and the next call has the next number."""
    for who, process in enumerate(world.processes):
        if process.call:
            done = process._replace(call=None)
            yield (
                f"process {who} gives up call {process.call.number}",
                world._replace(processes=put(world.processes, who, done)),
            )


def is_refused_a_read(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """The sweep, a balance: calls that move nothing are refused like any other."""
    for who, process in enumerate(world.processes):
        if process.call or not process.incarnation:
            continue
        read = Call(process.number + 1, (), process.incarnation, process.server)
        if _script(world, who, read, rules)[1] == "refused":
            processes = put(world.processes, who, process._replace(incarnation=0))
            yield f"process {who} is refused a read", world._replace(processes=processes)


def a_copy_is_carried_out_late(world: World, rules: Rules, _: Size) -> Iterator[Step]:
    """The stopped server goes on with what its buffer holds; nobody waits for the answer."""
    for copy in world.wire:
        left = world._replace(wire=world.wire - {copy})
        after, reply = _script(left, copy.process, copy.call, rules)
        yield f"the server carries out a late copy of call {copy.call.number}: {reply}", after


def _arrives(what: str, world: World, who: int, rules: Rules) -> Iterator[Step]:
    """The call is answered, or its answer is lost, or it is stuck on the way."""
    process = world.processes[who]
    call = process.call
    assert call
    after, reply = _script(world, who, call, rules)
    if reply == "refused":
        refused = process._replace(incarnation=0, call=call if call.sends > 1 else None)
        if call.sends == 1:
            refused = refused._replace(waiting=call.operations + process.waiting, number=call.number)
        yield f"{what}: not admitted", after._replace(processes=put(after.processes, who, refused))
        return
    if reply in {"applied", "replayed"}:
        done = after._replace(processes=put(after.processes, who, process._replace(call=None)))
        yield f"{what}: {reply}, answered", _acknowledge(done, call.operations)
    elif reply in {"stale", "fenced"}:
        yield (
            f"{what}: {reply}",
            after._replace(processes=put(after.processes, who, process._replace(call=None))),
        )
        return
    yield f"{what}: {reply}, answer lost", after
    yield f"{what}: stuck", world._replace(wire=world.wire | {Copy(who, call)})


def _script(world: World, who: int, call: Call, rules: Rules) -> tuple[World, str]:
    """apply.lua: admit, look at the lane, append. Returns the world after it and what it answered."""
    redis = world.redis
    if rules.incarnation and redis.incarnation != call.incarnation:
        return world, "refused"
    if rules.server and (redis.admitted_server, world.server) != (call.server, call.server):
        return world, "refused"
    if redis.fenced:
        return world, "fenced"
    lane = redis.lanes[who]
    if rules.lane and call.number == lane.number:
        return _serve(world), "replayed"
    if rules.lane and call.number < lane.number:
        return world, "stale"
    execution = world.executions + 1
    entries = redis.entries
    for operation in call.operations:
        last = entries[-1] if entries else None
        first = last is None or last.execution != execution
        entry = Entry(
            operation, execution, redis.link if first else None, execution,
            (last.execution, last.operation) if last else None,
        )  # fmt: skip
        entries = (*entries, entry)
    lanes = put(redis.lanes, who, Lane(call.number, call.operations))
    applied = Redis(entries, redis.trimmed, redis.incarnation, redis.admitted_server, redis.fenced, lanes)
    return _serve(world)._replace(redis=applied, executions=execution), "applied"


def _serve(world: World) -> World:
    """I9: whoever is served is served from what the journal is a prefix of."""
    rows, entries = world.postgres.rows, world.redis.entries
    if entries[: len(rows)] == rows:
        return world
    return world._replace(broken=world.broken | {"SERVED_A_LIE"})


def _acknowledge(world: World, operations: tuple[int, ...]) -> World:
    return world._replace(answered=world.answered | set(operations))
