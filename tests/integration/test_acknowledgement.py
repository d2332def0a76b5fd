"""`LASTRO_ACK=fsync` and the Redis that it demands: at the start, and for as long as it is served."""

import pytest
from redis.asyncio import Redis

from app.ledger.acknowledgement import Acknowledgement
from app.ledger.backing import NotAdmitted
from app.ledger.connection import connect
from app.settings import Settings
from persistence import api_keys
from persistence.birth import give_birth
from tests.http.conftest import ALL, running
from tests.http.serving import create_app
from tests.http.test_health import client_of, until

ON_DISK = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


@pytest.mark.parametrize(
    ("name", "other"),
    [("appendonly", "no"), ("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes")],
)
async def test_what_keeps_redis_from_writing_before_it_answers_is_named(own_valkey, name, other):
    async with connect(own_valkey.url) as redis:
        await Acknowledgement.of("fsync").demand(redis)
        await redis.config_set(name, other)
        with pytest.raises(NotAdmitted, match=rf"has {name} {other}\. Set it to {ON_DISK[name]}"):
            await Acknowledgement.of("fsync").demand(redis)
        for level in ("memory", "replicated=2"):
            await Acknowledgement.of(level).demand(redis)


async def test_a_redis_that_does_not_tell_is_not_believed(own_valkey):
    async with connect(own_valkey.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "default", "-config")
        with pytest.raises(NotAdmitted, match="does not say"):
            await Acknowledgement.of("fsync").demand(redis)


async def test_a_service_that_promises_the_disk_serves_only_while_redis_writes_to_it(
    own_valkey, database_url, database
):
    await give_birth(database_url, own_valkey.url, 1)
    token = await api_keys.create(database, "all", ALL)
    settings = Settings(redis_url=own_valkey.url, database_url=database_url, shards=1, ack="fsync")
    async with Redis.from_url(own_valkey.url) as redis:
        await redis.config_set("appendfsync", "everysec")
        async with running(app := create_app(settings)), client_of(app, token) as client:

            async def grant():
                return await client.post("/api/credits/grant", json={"accountId": "ana", "amount": 1})

            refused = await grant()
            assert (503, "ledger_unavailable") == (refused.status_code, refused.json()["code"])
            assert ("not_persisting", "changed nothing" in refused.json()["detail"]) == (
                refused.json().get("cause"), True
            )  # fmt: skip
            assert "appendfsync everysec" in app.state.parts.ledger.why_not
            await redis.config_set("appendfsync", "always")
            await until(grant, 201)
            await redis.config_set("appendfsync", "no")
            await until(grant, 503)
            assert "appendfsync no" in app.state.parts.ledger.why_not
