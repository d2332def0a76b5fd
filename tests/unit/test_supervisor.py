"""What `lastro up` does about children that die, and how it ends them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.embedded import Process
from app.up.supervisor import Supervisor


class Shell(Process):
    """A child that runs a line of shell, and is ready once it has written `ready`."""

    def __init__(self, name: str, folder: Path, line: str) -> None:
        super().__init__(name, folder / name)
        self._folder = folder
        self._line = line

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", self._line]

    def environment(self) -> Mapping[str, str]:
        return {"PATH": "/usr/bin:/bin"}

    def folder(self) -> Path:
        return self._folder

    def is_ready(self) -> bool:
        return "ready" in self.log.read_text()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


def until_told(name: str, folder: Path) -> Shell:
    on_term = f"trap 'echo {name} >> order; exit' TERM"
    return Shell(name, folder, f"{on_term}; echo ready; while :; do sleep 0.01; done")


def test_what_keeps_dying_is_started_again_ever_more_slowly(tmp_path: Path, said: list[str]) -> None:
    clock = Clock()
    supervisor = Supervisor(said.append, clock)
    child = until_told("child", tmp_path)
    child.start()
    supervisor.adopt(child)
    for _ in range(9):
        child.kill()
        supervisor.look()
        clock.now += 10.0  # later than any delay, and too early to count as steady
        supervisor.look()
        clock.now -= 9.5
    supervisor.kill()
    delays = [line.partition("started again ")[2].partition(" (")[0] for line in said]
    assert delays == ["now", *(f"in {seconds} s" for seconds in (0.25, 0.5, 1, 2, 4, 8, 10, 10))]
    assert said[0].startswith("child was ended by SIGKILL; it is started again now")


def test_what_had_lived_for_long_is_started_again_at_once(tmp_path: Path, said: list[str]) -> None:
    clock = Clock()
    supervisor = Supervisor(said.append, clock)
    child = until_told("child", tmp_path)
    child.start()
    supervisor.adopt(child)
    for _ in range(3):
        clock.now += 10.0
        child.kill()
        supervisor.look()
        assert child.alive
    assert len(said) == 3
    assert all(line.startswith("child was ended by SIGKILL; it is started again now") for line in said)
    supervisor.kill()


def test_the_last_stage_ends_first(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(said.append)
    for name in ("server", "worker", "api"):
        child = until_told(name, tmp_path)
        child.start()
        supervisor.adopt(child)
    supervisor.stop(4.5)
    assert (tmp_path / "order").read_text().split() == ["api", "worker", "server"]
    assert said == []


def test_what_does_not_end_in_time_is_killed_and_that_is_said(tmp_path: Path, said: list[str]) -> None:
    child = Shell("stubborn", tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
    child.start()
    supervisor = Supervisor(said.append)
    supervisor.adopt(child)
    supervisor.stop(0.1)
    assert said == ["stubborn did not end in time and was killed"]
    assert child.ending == "was ended by SIGKILL"


def test_what_was_never_started_can_be_ended(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(said.append)
    supervisor.adopt(Shell("child", tmp_path, "exit"))
    supervisor.stop(1.0)
    assert said == []
