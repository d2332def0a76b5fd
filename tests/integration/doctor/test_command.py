"""`lastro doctor` as a whole: nothing where nothing is wrong, nobody at work, and its exit codes."""

import asyncio
import json

from click.testing import CliRunner
from redis import Redis as BlockingRedis

from app.cli import cli
from app.ledger import keys
from persistence.birth import give_birth
from persistence.doctor import Bounds, examine
from tests.integration.doctor.findings import BY_HAND, found


async def test_a_healthy_ledger_has_nothing_to_say(database, redis, redis_url, healthy):
    assert await found(database, redis, redis_url) == {}


async def test_workers_and_cron_that_are_missing_are_critical(database, redis, redis_url, healthy):
    findings = {each.check: each for each in await examine(database, redis, redis_url, Bounds())}
    assert {findings[each].level for each in BY_HAND} == {"critical"}
    assert "lastro worker" in findings["workers"].do


def test_the_command_tells_by_its_exit_code_and_in_json(own_valkey, own_postgres):
    asyncio.run(give_birth(own_postgres.url, own_valkey.url, 2))
    environment = {"LASTRO_REDIS_URL": own_valkey.url, "LASTRO_DATABASE_URL": own_postgres.url}

    def doctor(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["doctor", *arguments], env=environment)
        return done.exit_code, done.output

    code, said = doctor()
    assert code == 1
    assert "critical  workers" in said
    assert "-> Start `lastro worker`" in said
    code, said = doctor("--json")
    assert (code, {each["check"] for each in json.loads(said)} >= {"fence", "backlog", "clock"}) == (1, True)
    with BlockingRedis.from_url(own_valkey.url) as client:
        assert client.exists(keys.meta(0))
    own_valkey.kill()
    code, said = doctor()
    assert (code, "unknown   redis" in said) == (2, True)
    own_postgres.kill()
    code, said = doctor()
    assert (code, "unknown   postgres" in said) == (2, True)
