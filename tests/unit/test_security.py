"""SECURITY.md promises nothing that no test covers."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = [
    line.strip("| ").split(" | ")
    for line in TEXT.partition("## The threat model")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ")
][1:]


def test_every_threat_says_what_stands_against_it_and_which_test_shows_it():
    assert len(ROWS) > 25
    for row in ROWS:
        assert 3 == len(row), row
        assert all(row)
        assert re.search(r"`test_\w+\.py(::test_\w+)?`", row[2]), row


def test_the_tests_that_are_named_exist():
    files: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        files[path.name] = files.get(path.name, "") + path.read_text()
    for row in ROWS:
        for file, _, test in re.findall(r"`(test_\w+\.py)(::(test_\w+))?`", row[2]):
            assert file in files, file
            if test:
                assert re.search(rf"^(async )?def {test}\(", files[file], re.MULTILINE), test
