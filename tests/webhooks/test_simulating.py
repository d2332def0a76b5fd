"""`lastro simulate` against a real server that proves what it gets as the door does."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.webhooks import callback
from app.webhooks.event import Delivery, Unverified
from tests.webhooks.deliveries import (
    FAL_PRIVATE,
    RESERVATION,
    SECRETS,
    SENDERS,
    SIGNING,
    TASK,
    TIMED,
)
from tests.webhooks.server import Answer, Request, Server, serving

MASTER = "a master secret of at least 32 bytes"
ENVIRONMENT = {
    "LASTRO_REDIS_URL": "redis://127.0.0.1:1",
    "LASTRO_DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "LASTRO_WEBHOOK_MASTER_SECRETS": MASTER,
    "LASTRO_WEBHOOK_BFL_SECRETS": f"callback,{SECRETS['bfl']}",
    "LASTRO_WEBHOOK_GENERIC_SECRETS": f"{SECRETS['generic']},callback",
    "LASTRO_WEBHOOK_LUMA_SECRETS": "callback",
    **{
        f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": f"{SECRETS[name]}, whsec_b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXI="
        for name in ("replicate", "kling", "sync", "heygen", "stripe")
    },
}


class Door:
    """Proves and reads; what it took to be true is in `events`."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.secrets = {name: [secret] for name, secret in SECRETS.items()}

    async def answer(self, request: Request) -> Answer:
        path = request.line.split(" ")[1].removeprefix("/api/webhooks/")
        name, _, rest = path.partition("/")
        delivery = Delivery(request.headers, request.body)
        try:
            if name == "luma":
                self._open(name, rest)
            else:
                SENDERS[name].verify(delivery, self.secrets[name], time.time())
        except Unverified as why:
            return Answer({"code": "unauthenticated", "detail": str(why)}, "401 Unauthorized")
        self.events.append(SENDERS[name].read(delivery))
        return Answer({"status": "verified"})

    def _open(self, name: str, rest: str) -> None:
        reservation, _, token = rest.partition("/")
        if not callback.opens([MASTER], name, reservation, token):
            raise Unverified("another token")


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def server(door) -> AsyncIterator[Server]:
    async with serving(door.answer) as server:
        yield server


async def simulate(*arguments: object, environment: dict[str, str] = ENVIRONMENT) -> Result:
    """The command as it ends, in a thread of its own as it is in a process of its own elsewhere."""
    given = ["simulate", *map(str, arguments)]
    return await asyncio.to_thread(CliRunner().invoke, cli, given, env=dict(environment))


def of_task(name: str) -> list[str]:
    """What the sender needs to be told of."""
    more = ["--account", "alice", "--amount", "500"] if name == "stripe" else []
    return ["--task", TASK, *more, *(["--secret", FAL_PRIVATE] if name == "fal" else [])]


def callback_url(server: Server, name: str) -> str:
    return f"{server.url}/api/webhooks/{name}/{RESERVATION}/{callback.token(MASTER, name, RESERVATION)}"


@pytest.mark.parametrize("name", SIGNING)
async def test_what_is_sent_is_proven_and_read(server, door, name):
    done = await simulate(name, "--url", server.url, *of_task(name))
    assert (0, 1) == (done.exit_code, len(door.events)), done.output
    assert [f"/api/webhooks/{name}"] == server.paths
    if name != "stripe":
        assert (TASK, "succeeded") == (door.events[0].task, door.events[0].outcome)


@pytest.mark.parametrize("name", SIGNING)
async def test_a_wrong_signature_is_refused_and_that_is_right(server, door, name):
    done = await simulate(name, "--url", server.url, *of_task(name), "--wrong-signature")
    assert (0, []) == (done.exit_code, door.events), done.output
    assert "401" in done.output


@pytest.mark.parametrize("name", SIGNING)
async def test_what_is_signed_too_long_ago_is_refused_where_a_time_is_signed(server, door, name):
    done = await simulate(name, "--url", server.url, *of_task(name), "--late", 400)
    assert (0, 0 if name in TIMED else 1) == (done.exit_code, len(door.events)), done.output


async def test_what_is_a_little_late_is_taken(server, door):
    done = await simulate("replicate", "--url", server.url, "--task", TASK, "--late", 200)
    assert (0, 1) == (done.exit_code, len(door.events))


async def test_a_door_that_refuses_what_is_right_is_found(server, door):
    door.secrets["replicate"] = ["whsec_b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXI="]
    done = await simulate("replicate", "--url", server.url, "--task", TASK)
    assert 1 == done.exit_code
    assert "should be 200" in done.output


async def test_a_door_that_lets_everybody_in_is_found():
    async def open_to_all(_request: Request) -> Answer:
        return Answer({})

    async with serving(open_to_all) as careless:
        done = await simulate("sync", "--url", careless.url, "--task", TASK, "--wrong-signature")
        assert 1 == done.exit_code
        assert "should be 401" in done.output


async def test_outcomes_are_sent_in_order_each_so_many_times(server, door):
    asked = ["--outcome", "progress", "--outcome", "failed", "--outcome", "succeeded", "--times", 3]
    done = await simulate("replicate", "--url", server.url, "--task", TASK, *asked)
    outcomes = [each.outcome for each in door.events]
    assert 0 == done.exit_code
    assert ["progress"] * 3 + ["failed"] * 3 + ["succeeded"] * 3 == outcomes
    assert outcomes == [line.split()[0] for line in done.output.splitlines()]


async def test_reordered_the_last_comes_first(server, door):
    asked = ["--outcome", "progress", "--outcome", "succeeded", "--reorder"]
    await simulate("kling", "--url", server.url, "--task", TASK, *asked)
    assert ["succeeded", "progress"] == [each.outcome for each in door.events]


async def test_a_doubled_delivery_is_the_same_message(server):
    await simulate("replicate", "--url", server.url, "--task", TASK, "--times", 5)
    assert [5] == list(Counter(each.headers["webhook-id"] for each in server.requests).values())
    assert 1 == len({each.body for each in server.requests})


async def test_two_outcomes_are_two_messages(server):
    asked = ["--outcome", "progress", "--outcome", "succeeded"]
    await simulate("replicate", "--url", server.url, "--task", TASK, *asked)
    assert 2 == len({each.headers["webhook-id"] for each in server.requests})


async def test_what_was_used_and_what_is_confirmed_are_told(server, door):
    await simulate("sync", "--url", server.url, "--task", TASK, "--units", "12.345678")
    await simulate("generic", "--url", server.url, "--task", TASK, "--amount", 7)
    assert ["12.345678", 7] == [str(door.events[0].payload["outputDuration"]), door.events[1].amount]


# -- callback URLs


@pytest.mark.parametrize("name", ["bfl", "generic"])
async def test_at_a_callback_url_the_secret_of_the_reservation_signs(server, door, name):
    door.secrets[name] = [callback.secret(MASTER, RESERVATION)]
    done = await simulate(name, "--url", callback_url(server, name))
    assert (0, 1) == (done.exit_code, len(door.events)), done.output


async def test_at_a_callback_url_the_reservation_is_told_where_the_sender_tells_it(server, door):
    door.secrets["generic"] = [callback.secret(MASTER, RESERVATION)]
    for name in ("generic", "kling", "heygen"):
        await simulate(name, "--url", callback_url(server, name))
    assert [RESERVATION] * 3 == [each.reservation for each in door.events]


async def test_luma_signs_nothing_and_its_token_is_its_proof(server, door):
    right = await simulate("luma", "--url", callback_url(server, "luma"))
    wrong = await simulate("luma", "--url", callback_url(server, "luma"), "--wrong-signature")
    assert (0, 0, 1) == (right.exit_code, wrong.exit_code, len(door.events))
    assert "401" in wrong.output


# -- what cannot be sent


async def refused(*arguments: object, environment: dict[str, str] = ENVIRONMENT) -> str:
    done = await simulate(*arguments, environment=environment)
    assert 2 == done.exit_code, done.output
    return done.output.replace("\n", " ")


async def test_what_cannot_be_sent_says_what_would_be_right(server):
    at = ["--url", server.url]
    assert "--task is missing" in await refused("replicate", *at)
    assert "door of luma, and not of bfl" in await refused("bfl", "--url", callback_url(server, "luma"))
    for url in ("ftp://a", "a", "", "http://", f"{server.url}/?x=y"):
        assert "--url" in await refused("replicate", "--task", TASK, "--url", url)
    assert "tells of endings only" in await refused("heygen", *at, "--task", TASK, "--outcome", "progress")
    assert "--units are known" in await refused("bfl", *at, "--task", TASK, "--units", 5)
    for number in ("-1", "NaN", "1e99", "x", "", "1.", "\u0665"):
        assert "is no number like" in await refused("sync", *at, "--task", TASK, "--units", number)
    assert "knows no credits" in await refused("sync", *at, "--task", TASK, "--amount", 5)
    assert "knows no accounts" in await refused("sync", *at, "--task", TASK, "--account", "alice")
    assert "--account and --amount" in await refused("stripe", *at, "--task", TASK)
    assert "base64" in await refused("replicate", *at, "--task", TASK, "--secret", "not base64!")
    assert [] == server.requests


async def test_without_a_secret_the_setting_is_named(server):
    environment = {name: value for name, value in ENVIRONMENT.items() if "REPLICATE" not in name}
    said = await refused("replicate", "--task", TASK, "--url", server.url, environment=environment)
    assert "LASTRO_WEBHOOK_REPLICATE_SECRETS" in said


@pytest.mark.parametrize("name", ["luma", "kling", "generic"])
async def test_whoever_is_proven_by_its_callback_url_alone_is_sent_nowhere_else(server, name):
    environment = ENVIRONMENT | {f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": "callback"}
    said = await refused(name, "--task", TASK, "--url", server.url, environment=environment)
    assert "give the one that reserve answered as --url" in said
    assert [] == server.requests


async def test_without_settings_a_secret_is_enough(server, door, tmp_path):
    given = ["--task", TASK, "--url", server.url, "--secret", SECRETS["replicate"], "--data", tmp_path]
    done = await simulate("replicate", *given, environment={})
    assert (0, 1) == (done.exit_code, len(door.events)), done.output


async def test_of_fal_a_pair_is_made_up_that_works(server, door):
    said = await refused("fal", "--task", TASK, "--url", server.url)
    public = said.partition('"x":"')[2].partition('"')[0]
    private = said.rpartition("--secret ")[2].strip()
    door.secrets["fal"] = [public]
    done = await simulate("fal", "--task", TASK, "--url", server.url, "--secret", private)
    assert (0, 1) == (done.exit_code, len(door.events)), done.output


async def test_nobody_at_home_is_exit_code_2(server):
    async with serving() as gone:
        pass
    assert "does not answer" in await refused("replicate", "--task", TASK, "--url", gone.url)


async def test_no_answer_steers_the_terminal():
    async def steering(_request: Request) -> Answer:
        return Answer(b"a\x1b[2Jb\nc\x07" + b"d" * 10_000)

    async with serving(steering) as server:
        done = await simulate("replicate", "--task", TASK, "--url", server.url)
        (line,) = done.output.splitlines()
        assert line.startswith("succeeded  200  a [2Jb c ddd")
        assert len(line) < 400


async def test_no_secret_is_shown(server):
    for arguments in ((), ("--wrong-signature",), ("--late", 400)):
        done = await simulate("sync", "--task", TASK, "--url", server.url, *arguments)
        assert SECRETS["sync"] not in done.output
