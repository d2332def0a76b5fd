"""What the README and the guide tell people to type works as it stands there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.up.data import read_environment
from tests.conftest import reachable_folder
from tests.integration.test_up import LastroUp

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are written for curl")


@pytest.fixture(scope="module")
def running() -> Iterator[LastroUp]:
    with reachable_folder() as folder:
        lastro = LastroUp(folder)
        lastro.start()
        yield lastro
        lastro.stop()


def examples(document: str, heading: str) -> str:
    """All shell blocks from `heading` on, as one script; those that need other programs left out."""
    text = (ROOT / document).read_text().partition(heading)[2]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "".join(block for block in blocks if "curl" in block or block.startswith("KEY="))


def typed(script: str, lastro: LastroUp) -> list[dict[str, object]]:
    """Run the script against `lastro`; the answers of its calls, in order, none of which may be an error."""
    port = read_environment(lastro.data)["LASTRO_PORT"]
    script = script.replace(".lastro/", f"{lastro.data}/").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    script = script.replace("curl -s", "curl -sS --fail-with-body -w '\\n'")
    ran = subprocess.run(
        ["/bin/bash", "-euc", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines() if line]


def test_the_first_reserve_and_confirm_of_the_readme(running):
    answers = typed(examples("README.md", "## A first reserve and confirm"), running)
    assert answers[2]["transaction"] == answers[3]["transaction"]
    assert answers[4]["available"] == 49


def test_the_guide_for_integrators(running):
    answers = typed(examples("docs/integrating.md", "# Integrating"), running)
    assert answers[3]["reservation"]["released"] == 1
    assert answers[-2]["available"] == 60 + 40 - 50 - 1


def test_the_guide_to_pricing(running):
    answers = typed(examples("docs/pricing.md", "# Pricing"), running)
    put, fifty, twelve, _, reserved, doubled, confirmed, deducted, card, versions = answers
    assert [1, 51, 13] == [put["version"], fifty["credits"], twelve["credits"]]
    held = reserved["reservation"]
    assert [51, 1, "50"] == [held["held"], held["price"]["version"], held["price"]["units"]]
    assert 2 == doubled["version"]
    spent = confirmed["reservation"]
    assert [13, 38] == [spent["captured"], spent["released"]]
    assert 25 == deducted["transaction"]["amount"]
    assert [[2], [2, 1]] == [[each["version"] for each in page["data"]] for page in (card, versions)]
