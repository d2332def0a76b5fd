"""Composes the Lua scripts. A file names what it stands on with `--- @include parts/lots`, one a line.

Each included file is a Lua module: it becomes `local lots = (function() ... end)()`, once, before whoever
includes it. `--- @include operations/*` becomes one table of modules by file name. Nothing is read from disk
after the start.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INCLUDE = re.compile(r"^--- @include (\S+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--(?!\[\[).*\n|^--\[\[.*?\]\]\n", re.MULTILINE | re.DOTALL)


class Script(NamedTuple):
    """A script ready for EVALSHA. `sha` is the hex SHA-1 by which the server knows it."""

    name: str
    text: str
    sha: str


def source(path: str) -> str:
    """The text of a Lua file, by its path under `lua/` without the ending."""
    return files("lua").joinpath(f"{path}.lua").read_text(encoding="utf-8")


def operations() -> list[str]:
    """The verbs: the names of the files under `lua/operations/`."""
    return sorted(each.name.removesuffix(".lua") for each in files("lua").joinpath("operations").iterdir())


@cache
def load(name: str, clock: str = "parts/clock") -> Script:
    """Compose `lua/<name>.lua`. `clock`: the part that tells the time; tests bring their own as `path:<file>`."""
    done: set[str] = set()
    text = _expand(source(name), clock, done)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _expand(text: str, clock: str, done: set[str]) -> str:
    pieces: list[str] = []
    position = 0
    for include in _INCLUDE.finditer(text):
        pieces.append(text[position : include.start()])
        position = include.end() + 1
        path = include[1]
        if path.endswith("/*"):
            folder = path.removesuffix("/*")
            names = operations()
            bodies = [_module(f"{folder}/{name}", clock, done) for name in names]
            pieces += [body for body in bodies]
            rows = ", ".join(f"{name} = {name}_module" for name in names)
            pieces.append(f"local {folder} = {{ {rows} }}\n")
        elif path not in done:
            pieces.append(_module(path, clock, done))
    pieces.append(text[position:])
    return "".join(pieces)


def _module(path: str, clock: str, done: set[str]) -> str:
    done.add(path)
    text = open(clock.removeprefix("path:")).read() if path == "parts/clock" and clock.startswith("path:") else source(path)
    before: list[str] = []
    for include in _INCLUDE.finditer(text):
        if include[1] not in done:
            before.append(_module(include[1], clock, done))
    body = _COMMENT.sub("", _INCLUDE.sub("", text))
    name = path.rpartition("/")[2]
    local = f"{name}_module" if path.startswith("operations/") else name
    return "".join(before) + f"local {local} = (function()\n{body.strip()}\nend)()\n"
