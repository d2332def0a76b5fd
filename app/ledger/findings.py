"""What was found, a line each; and of several servers one line for each check."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "critical", "unknown"]

FROM_GOOD_TO_BAD: list[Level] = ["ok", "unknown", "warning", "critical"]


class Finding(NamedTuple):
    """`do` is empty where there is nothing to do. `unknown`: it could not be told."""

    check: str
    level: Level
    says: str
    do: str = ""


def worst(by_server: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """Of each check the worst, with the servers of which it is said. All have the same checks."""
    if len(by_server) == 1:
        return [each for findings in by_server.values() for each in findings]
    return [
        _worst(dict(zip(by_server, alike, strict=True))) for alike in zip(*by_server.values(), strict=True)
    ]


def _worst(found: Mapping[str, Finding]) -> Finding:
    level = max((each.level for each in found.values()), key=FROM_GOOD_TO_BAD.index)
    said: dict[str, list[str]] = {}
    for name, each in found.items():
        if each.level == level:
            said.setdefault(each.says, []).append(name)
    says = "; ".join(f"{', '.join(names)}: {text}" for text, names in said.items())
    some = next(each for each in found.values() if each.level == level)
    return Finding(some.check, level, says, some.do)
