"""`lastro demo` against a real `lastro up`: it plays, it checks, and it goes on when parts of it die."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from app.demo.account import Account
from app.demo.answers import Receipt
from app.demo.api import Api
from app.demo.audit import Audit
from app.demo.errors import CannotTell
from app.demo.traffic import Traffic
from app.embedded.ports import free_port
from app.up.data import read_environment
from tests.folders import reachable_folder
from tests.integration.running import LASTRO, ROOT, LastroUp, environment, lastro, linux

Until = Callable[..., None]
SUMS = re.compile(
    r"([\d,]+) granted = ([\d,]+) available \+ ([\d,]+) held \+ ([\d,]+) spent \+ ([\d,]+) lapsed"
)


@pytest.fixture(scope="module")
def up() -> Iterator[LastroUp]:
    with reachable_folder() as folder:
        running = LastroUp(folder)
        running.start()
        yield running
        running.stop()


class Playing:
    """A `lastro demo` without a terminal; `said` is what it has printed so far."""

    def __init__(self, up: LastroUp, folder: Path, *arguments: str) -> None:
        self._file = folder / "demo"
        with self._file.open("wb") as file:
            self.process = subprocess.Popen(
                [*LASTRO, "demo", "--data", str(up.data), *arguments],
                cwd=ROOT,
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._file.read_text()

    def is_open(self) -> bool:
        return "open, " in self.said

    def conclusion(self) -> str:
        """What it says at the end, when it has found every credit."""
        assert 0 == self.process.wait(90), self.said
        play, _, conclusion = self.said.partition("\n\n")
        assert "every credit is accounted for" not in play
        (found,) = SUMS.findall(conclusion)
        granted, available, held, spent, lapsed = (int(number.replace(",", "")) for number in found)
        assert granted == available + held + spent + lapsed
        assert 0 == held
        assert spent > 0
        return conclusion


@contextmanager
def playing(up: LastroUp, folder: Path, *arguments: str) -> Iterator[Playing]:
    play = Playing(up, folder, *arguments)
    try:
        yield play
    finally:
        play.process.kill()
        play.process.wait()


def number(words: str, text: str) -> int:
    (found,) = re.findall(rf"([\d,]+) {words}", text)
    return int(found.replace(",", ""))


def test_every_credit_is_accounted_for_and_everything_that_can_happen_has_happened(
    up: LastroUp, tmp_path: Path
) -> None:
    with playing(up, tmp_path, "--seconds", "6", "--accounts", "150") as play:
        said = play.conclusion()
    assert number("were confirmed twice at the same instant: one transaction each", said) > 0
    assert 150 == number("accounts", said)
    last = play.said.partition("\n\n")[0].splitlines()[-1]
    for what in ("succeeded", "in part", "failed", "cancelled", "expired", "cut off by us"):
        assert f" {what}" in last
    assert 0 < number("lapsed", said)


def test_it_is_closed_early_with_ctrl_c_on_a_ledger_where_it_was_played_before(
    up: LastroUp, tmp_path: Path, until: Until
) -> None:
    with playing(up, tmp_path, "--seconds", "600", "--accounts", "20") as play:
        until(play.is_open)
        play.process.send_signal(signal.SIGINT)
        play.conclusion()


def test_a_second_ctrl_c_ends_it_without_a_verdict(up: LastroUp, tmp_path: Path, until: Until) -> None:
    with playing(up, tmp_path, "--seconds", "600", "--accounts", "100") as play:
        until(play.is_open)
        play.process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C again ends it at once" in play.said)
        play.process.send_signal(signal.SIGINT)
        assert 2 == play.process.wait(10)
    assert "Error: ended before the check; nothing can be said about the credits\n" in play.said


EVERY_PART = pytest.mark.nightly("the shop goes on as it does without the API; tests/chaos kills the rest")


@linux
@pytest.mark.parametrize(
    "part",
    [
        "app.cli api",
        pytest.param("app.cli worker", marks=EVERY_PART),
        pytest.param("valkey-server", marks=EVERY_PART),
    ],
)
def test_the_shop_goes_on_when_a_part_is_killed_and_no_credit_is_lost(
    up: LastroUp, tmp_path: Path, until: Until, part: str
) -> None:
    with playing(up, tmp_path, "--seconds", "4", "--accounts", "60") as play:
        until(play.is_open)
        os.kill(up.parts(part)[0].pid, signal.SIGKILL)
        said = play.conclusion()
    assert part == "app.cli worker" or number("requests were repeated under their keys", said) > 0


async def test_what_happens_behind_the_back_of_the_shop_is_named_with_account_and_credits(
    up: LastroUp,
) -> None:
    async with Api(url(up), up.key, Traffic(), Random(1)) as api:
        honest, robbed = Account("honest", api), Account("robbed", api)
        for account in (honest, robbed):
            granted = await account.ask("grant", "grant", {"accountId": account.name, "amount": 100})
            assert isinstance(granted, Receipt)
        await robbed.post("deduct", "elsewhere", {"accountId": "robbed", "amount": 51})
        books = await Audit(api).check([honest, robbed])
    assert [
        "robbed: +51 credits deducted: the journal has 51 in 1 transactions, the answers said 0 in 0",
        "robbed: its transactions are not those that the answers named",
    ] == books.differences
    assert (200, 149, 51) == (books.granted, books.available, books.spent)


async def test_a_ledger_that_does_not_answer_is_given_up_after_a_while(
    up: LastroUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.demo.api.PATIENCE_SECONDS", 0.2)
    async with Api(f"http://127.0.0.1:{free_port()}", up.key, Traffic(), Random(1)) as api:
        with pytest.raises(CannotTell, match=r"has not answered POST /api/credits/grant for 0\.2 s"):
            await Account("nobody", api).ask("grant", "grant", {"accountId": "nobody", "amount": 1})


def test_without_a_ledger_or_with_a_key_that_may_not_grant_it_refuses(up: LastroUp, tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = lastro("demo", *arguments)
        assert 2 == done.returncode, done.stdout
        return done.stderr

    assert "No running `lastro up` was found" in refused("--data", str(tmp_path))
    for no_key in ([], ["--key", ""]):
        assert "--url needs --key" in refused("--url", url(up), "--data", str(up.data), *no_key)
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"{nowhere} does not answer" in refused("--url", nowhere, "--key", "lk_")
    assert "does not take the key (unauthenticated)" in refused("--url", url(up), "--key", "lk_")
    made = lastro("keys", "create", "--name", "spender", "--scope", "spend", "--data", str(up.data))
    assert "does not take the key (forbidden)" in refused("--url", url(up), "--key", made.stdout.strip())


def url(up: LastroUp) -> str:
    return f"http://127.0.0.1:{read_environment(up.data)['LASTRO_PORT']}"
