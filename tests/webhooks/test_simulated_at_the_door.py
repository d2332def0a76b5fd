"""`lastro simulate` at the doors of a whole running ledger: what a person sees who tries a deployment."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from app.cli import cli
from app.up.data import read_environment
from tests.conftest import reachable_folder
from tests.integration.running import LastroUp
from tests.webhooks.deliveries import FAL_PRIVATE, FAL_PUBLIC, SECRETS

DOORS = {
    "LASTRO_PUBLIC_URL": "https://credits.example",
    "LASTRO_WEBHOOK_MASTER_SECRETS": "a master secret of at least 32 bytes",
    "LASTRO_WEBHOOK_FAL_JWKS": json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": FAL_PUBLIC}]}),
    "LASTRO_WEBHOOK_LUMA_SECRETS": "callback",
    "LASTRO_WEBHOOK_UNITS": "replicate=/metrics/predict_time",
    **{
        f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": SECRETS[name]
        for name in ("replicate", "kling", "sync", "heygen", "stripe")
    },
    **{f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": f"callback,{SECRETS[name]}" for name in ("bfl", "generic")},
}


class WithDoors(LastroUp):
    """With every door open."""

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **DOORS}

    def did(self, verb: str, **body: Any) -> dict[str, Any]:
        status, answer = self.post(f"/api/credits/{verb}", body)
        assert status in (200, 201), answer
        return answer

    def reserved(self, account: str, provider: str, task: str | None = None) -> tuple[str, str]:
        """The reservation of 40 of 100 credits, and its callback URL here."""
        self.did("grant", accountId=account, amount=100)
        more = {} if task is None else {"taskId": task}
        made = self.did("reserve", accountId=account, amount=40, provider=provider, **more)
        port = read_environment(self.data)["LASTRO_PORT"]
        return made["reservation"]["id"], f"http://127.0.0.1:{port}{urlsplit(made['callback']['url']).path}"

    def found(self, reservation: str) -> tuple[str, int, int]:
        _, now = self.get(f"/api/credits/reservations/{reservation}")
        return now["status"], now["captured"], now["released"]

    def available(self, account: str) -> int:
        return self.get(f"/api/credits/balance?accountId={account}")[1]["available"]

    def simulate(self, *arguments: object) -> list[tuple[str, int, str]]:
        """The outcome, the status and the word of each answer, all of which are right. In this process: to
        start another each time takes long.
        """
        done = CliRunner().invoke(cli, ["simulate", *map(str, arguments), "--data", str(self.data)])
        assert 0 == done.exit_code, done.output
        lines = [line.split(maxsplit=2) for line in done.output.splitlines()]
        return [(outcome, int(status), json.loads(said)["status"]) for outcome, status, said in lines]


@pytest.fixture(scope="module")
def running() -> Iterator[WithDoors]:
    with reachable_folder() as folder:
        lastro_up = WithDoors(folder)
        lastro_up.start()
        yield lastro_up
        lastro_up.stop()


@pytest.mark.parametrize("provider", ["replicate", "fal", "bfl", "kling", "sync", "heygen", "generic"])
def test_everybody_who_signs_is_let_in_and_settles_his_task(running: WithDoors, provider: str) -> None:
    reservation, _ = running.reserved(f"buyer-{provider}", provider, "task-1")
    secret = ["--secret", FAL_PRIVATE] if provider == "fal" else []
    assert [("failed", 200, "verified")] == running.simulate(
        provider, "--task", "task-1", "--outcome", "failed", *secret
    )
    assert ("cancelled", 0, 40) == running.found(reservation)


@pytest.mark.parametrize("provider", ["bfl", "luma", "generic"])
def test_a_callback_url_says_whose_it_is(running: WithDoors, provider: str) -> None:
    reservation, url = running.reserved(f"caller-{provider}", provider)
    assert [("succeeded", 401, 401)] == running.simulate(provider, "--url", url, "--wrong-signature")
    assert ("pending", 0, 0) == running.found(reservation)
    assert [("succeeded", 200, "verified")] == running.simulate(provider, "--url", url)
    assert ("confirmed", 40, 0) == running.found(reservation)


def test_a_success_that_comes_often_is_charged_once(running: WithDoors) -> None:
    reservation, _ = running.reserved("ana", "replicate", "often")
    answers = running.simulate("replicate", "--task", "often", "--times", 10)
    assert {200} == {status for _, status, _ in answers}
    assert {"verified", "duplicate"} >= {word for *_, word in answers}
    assert (("confirmed", 40, 0), 60) == (running.found(reservation), running.available("ana"))


def test_the_first_ending_stays_whatever_comes_after(running: WithDoors) -> None:
    reservation, _ = running.reserved("bea", "sync", "both")
    both = ["--outcome", "progress", "--outcome", "failed", "--outcome", "succeeded", "--times", 3]
    answers = running.simulate("sync", "--task", "both", *both, "--reorder")
    assert ["succeeded"] * 3 + ["failed"] * 3 + ["progress"] * 3 == [outcome for outcome, *_ in answers]
    assert "conflict" in [word for outcome, _, word in answers if outcome == "failed"]
    assert (("confirmed", 40, 0), 60) == (running.found(reservation), running.available("bea"))


def test_what_is_old_or_signed_by_somebody_else_moves_nothing(running: WithDoors) -> None:
    reservation, _ = running.reserved("cid", "kling", "forged")
    assert 401 == running.simulate("kling", "--task", "forged", "--late", 400)[0][1]
    assert 401 == running.simulate("kling", "--task", "forged", "--wrong-signature")[0][1]
    assert ("pending", 0, 0) == running.found(reservation)


def test_your_own_worker_says_what_is_confirmed(running: WithDoors) -> None:
    reservation, _ = running.reserved("dan", "generic", "own")
    running.simulate("generic", "--task", "own", "--amount", 7)
    assert ("confirmed", 7, 33) == running.found(reservation)


def test_a_payment_is_granted_once(running: WithDoors) -> None:
    paid = ["stripe", "--task", "pi_1", "--account", "eva", "--amount", 500]
    running.simulate(*paid, "--outcome", "progress", "--outcome", "succeeded", "--times", 5)
    running.simulate(*paid)
    assert 500 == running.available("eva")
