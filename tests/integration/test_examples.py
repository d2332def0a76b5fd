"""What the README and the guides tell people to type works as it stands there, and is answered as they say.

A block of JSON after a block of shell is what its last call is answered, as far as it is shown. Answers that
are not JSON (exports) are not looked at.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.http.codes import TABLE
from app.up.data import read_environment
from tests.folders import reachable_folder
from tests.integration.test_up import LastroUp

ROOT = Path(__file__).parents[2]
DOCS = sorted(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))
GUIDES = [each for each in DOCS if "\ncurl " in (ROOT / each).read_text()]
END = "# end of a block"

Answer = dict[str, Any]

needs_curl = pytest.mark.skipif(
    None in (shutil.which("curl"), shutil.which("openssl")),
    reason="the examples are written for curl and openssl",
)


class WithDoors(LastroUp):
    """As the guides for integrators and about webhooks have it."""

    def environment(self) -> Mapping[str, str]:
        doors = {
            "LASTRO_JWT_SECRETS": "a-secret-of-32-bytes-that-only-both-know",
            "LASTRO_USER_SCOPES": "reserve",
            "LASTRO_PUBLIC_URL": "https://credits.example",
            "LASTRO_WEBHOOK_MASTER_SECRETS": "a-master-secret-of-thirty-two-bytes",
            "LASTRO_WEBHOOK_GENERIC_SECRETS": "callback",
        }
        return {**super().environment(), **doors}


@pytest.fixture(scope="module")
def running() -> Iterator[LastroUp]:
    with reachable_folder() as folder:
        lastro = WithDoors(folder)
        lastro.start()
        yield lastro
        lastro.stop()


def blocks(document: str, heading: str) -> Iterator[tuple[str, Answer | None]]:
    """The shell blocks from `heading` on that call the API, each with the answer that is shown after it."""
    text = (ROOT / document).read_text().partition(heading)[2]
    found = re.findall(r"^```(sh|json)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for (language, block), (then, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if language == "sh" and ("curl" in block or block.startswith("KEY=")):
            yield block, json.loads(shown) if then == "json" else None


def typed(document: str, heading: str, lastro: LastroUp) -> list[Answer]:
    """Type all of it into one shell. The answers that it printed, none of which may be a problem but where
    the document shows one.
    """
    steps = list(blocks(document, heading))
    script = "".join(f"{block}echo '{END}'\n" for block, _ in steps)
    port = read_environment(lastro.data)["LASTRO_PORT"]
    script = script.replace(".lastro/", f"{lastro.data}/").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    script = script.replace("curl -s", "curl -sS -w '\\n'")
    ran = subprocess.run(
        ["/bin/bash", "-euc", script],
        cwd=lastro.data,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    answers: list[Answer] = []
    for (block, shown), printed in zip(steps, ran.stdout.split(f"{END}\n")[:-1], strict=True):
        answered = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        if shown is not None:
            assert shows(shown, answered[-1]), f"{block}\n{shown}\n{answered[-1]}"
        for answer in answered[: None if shown is None else -1]:
            assert "code" not in answer, f"{block}\n{answer}"
        answers += answered
    return answers


def shows(shown: object, answer: object) -> bool:
    """Whether all that is shown is in the answer. Lists are shown whole."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(
            name in answer and shows(value, answer[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return isinstance(answer, list) and len(shown) == len(answer) and all(map(shows, shown, answer))
    return type(shown) is type(answer) and shown == answer


@needs_curl
def test_the_first_reserve_and_confirm_of_the_readme(running):
    answers = typed("README.md", "## A first reserve and confirm", running)
    assert answers[2]["transaction"] == answers[3]["transaction"]
    assert answers[4]["available"] == 49


@needs_curl
@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_that_shows_calls(guide, running):
    assert typed(guide, "# ", running)


def test_the_guide_for_integrators_names_every_code():
    guide = (ROOT / "docs/integrating.md").read_text().partition("## Errors")[2]
    assert TABLE.keys() - set(re.findall(r"`([a-z_]+)`", guide)) == set()


@pytest.mark.parametrize("paper", ["README.md", "ARCHITECTURE.md", *DOCS])
def test_every_link_leads_somewhere(paper):
    for link in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", (ROOT / paper).read_text()):
        assert not link or (ROOT / paper).parent.joinpath(link).exists(), link
