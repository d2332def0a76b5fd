"""Loads an API over HTTP: with wrk where it is installed, else with our own generator."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.bed import ACCOUNTS, run
from tests.bench.figures import Loaded
from tests.bench.generator import generate, post

WRK = shutil.which("wrk")
CLIENTS = 64
_SCRIPT = Path(__file__).with_name("post.lua")
_PREPARED = 5_000


class Bodies(NamedTuple):
    """What is asked, over and over in the same mixed order."""

    path: str
    bodies: Sequence[bytes]


def deducts(accounts: Sequence[str] = ACCOUNTS) -> Bodies:
    """One credit from any of the accounts."""
    return Bodies("/api/credits/deduct", _bodies(accounts, {"amount": 1, "modelId": "video-5s"}))


def reserves() -> Bodies:
    """One credit of any account, for half an hour."""
    return Bodies("/api/credits/reserve", _bodies(ACCOUNTS, {"amount": 1, "modelId": "video-5s"}))


def _bodies(accounts: Sequence[str], fields: dict[str, object]) -> list[bytes]:
    drawn = random.Random(5).choices(accounts, k=_PREPARED)
    return [json.dumps({"accountId": account, **fields}).encode() for account in drawn]


def load(folder: Path, port: int, token: str, what: Bodies, clients: int, seconds: float) -> Loaded:
    """From so many connections, each with one request under way. wrk knows whole seconds only."""
    if WRK is None:
        requests = [post(what.path, token, body) for body in what.bodies]
        return run(generate(port, requests, clients, seconds))[0]
    bodies = folder / f"bodies-{port}"
    bodies.write_bytes(b"\n".join(what.bodies) + b"\n")
    done = subprocess.run(
        [
            *(
                WRK,
                "--threads",
                "1",
                "--connections",
                str(clients),
                "--duration",
                f"{max(1, round(seconds))}s",
            ),
            *("--timeout", "10s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}{what.path}"),
        ],
        env={"BENCH_TOKEN": token, "BENCH_BODIES": str(bodies), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("BENCH "))
    said = json.loads(line.removeprefix("BENCH "))
    errors = said["refused"] + said["lost"]
    return Loaded(
        said["requests"] - said["refused"],
        errors,
        said["microseconds"] / 1e6,
        said["p50"] / 1e3,
        said["p99"] / 1e3,
    )
