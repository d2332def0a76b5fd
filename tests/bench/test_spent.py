"""Where the time of an operation goes: what Redis adds up is told for each operation, and nothing else is."""

from redis import Redis

from app.embedded import Valkey
from tests.bench.spent import Watched

TWICE = "redis.call('SET', KEYS[1], 'x') redis.call('INCRBY', KEYS[2], 2) return redis.call('GET', KEYS[1])"


def test_what_a_script_takes_is_told_by_command_and_for_each_operation(own_valkey: Valkey):
    done = 0
    with Redis.from_url(own_valkey.url) as redis:
        sha = redis.script_load(TWICE)

        def measure(_seconds: float) -> float:
            nonlocal done
            for _ in range(100):
                redis.evalsha(sha, 2, "a", "b")
            done += 100
            return 1.0

        watched = Watched(own_valkey.url, measure, lambda: done)
        assert watched(1.0) == watched(1.0) == 1.0
        taken = redis.info("commandstats")
    spent = watched.spent()
    assert spent.commands_us.keys() == {"SET", "INCRBY", "GET"}
    assert spent.whole_us == taken["cmdstat_evalsha"]["usec"] / done
    assert 0 < spent.lua_us == spent.whole_us - sum(spent.commands_us.values())
    assert str(spent).startswith(f"{spent.lua_us:.1f} in Lua, ")
