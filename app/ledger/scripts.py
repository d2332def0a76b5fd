"""Composes the Lua scripts, and refuses one whose operations do not keep what their headers say.

A file names what it stands on with `--- @include parts/lots`, one a line. Each included file is a Lua module:
it becomes `local lots = (function() ... end)()`, once, before whoever includes it. `--- @include
operations/*` becomes one table of modules by file name. Nothing is read from disk after the start.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

_INCLUDE = re.compile(r"^--- @include (\S+)\n", re.MULTILINE)
_HEADER = re.compile(r"\A--\[\[\n(\w+): .*?\nFIELDS\n(.*?)\n\nREPLIES\n(.*?)\n\]\]\n", re.DOTALL)
_FIRST_WORD = re.compile(r"^  (\w+)", re.MULTILINE)
_PART_FUNCTION = re.compile(r"^function (\w+\.\w+)\(.*?^end$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"\boperation\.(\w+)")
_WORD = re.compile(r"answer\.refuse\('(\w+)'")


class Script(NamedTuple):
    """A script ready for EVALSHA. `sha` is the hex SHA-1 by which the server knows it."""

    name: str
    text: str
    sha: str


class Signature(NamedTuple):
    """What the header of an operation declares."""

    verb: str
    fields: frozenset[str]
    replies: frozenset[str]


def source(path: str) -> str:
    """The text of a Lua file, by its path under `lua/` without the ending."""
    return files("lua").joinpath(f"{path}.lua").read_text(encoding="utf-8")


def operations() -> list[str]:
    """The verbs: the names of the files under `lua/operations/`."""
    names = (each.name for each in files("lua").joinpath("operations").iterdir())
    return sorted(name.removesuffix(".lua") for name in names if name.endswith(".lua"))


def signature(verb: str, text: str) -> Signature:
    """What the header of an operation's file declares.

    Raises:
        ValueError: There is no header, it names another verb, or the body uses other fields or replies.
    """
    header = _HEADER.match(text)
    if header is None or header[1] != verb:
        raise ValueError(f"lua/operations/{verb}.lua must begin with a header that declares {verb}")
    body = text[header.end() :]
    declared = Signature(
        verb, frozenset(_FIRST_WORD.findall(header[2])), frozenset(_FIRST_WORD.findall(header[3]))
    )
    whole = body + done_by_parts(body)
    fields = set(_FIELD.findall(whole))
    replies = set(_WORD.findall(whole)) | set(re.findall(r"answer\.(ok|located)\(", body))
    for what, said, done in (("FIELDS", declared.fields, fields), ("REPLIES", declared.replies, replies)):
        if said != done:
            raise ValueError(
                f"lua/operations/{verb}.lua: header and body disagree about {what}: {sorted(said ^ done)}"
            )
    return declared


def done_by_parts(body: str) -> str:
    """The text of what an operation has done for it: the functions of the parts that operations share."""
    return "\n".join(text for name, text in _part_functions().items() if f"{name}(" in body)


@cache
def _part_functions() -> dict[str, str]:
    """The functions of the parts that operations share, by name, with their text."""
    shared = "\n".join(source(f"parts/{part}") for part in ("claims", "funds", "reservations"))
    return {found[1]: found[0] for found in _PART_FUNCTION.finditer(shared)}


@cache
def load(name: str, clock: Path | None = None) -> Script:
    """Compose `lua/<name>.lua`. `clock`: a file that stands in for `parts/clock`, where tests set the time.

    Raises:
        ValueError: An operation's header and body disagree.
    """
    done: set[str] = set()
    text = _expanded(source(name), clock, done)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _expanded(text: str, clock: Path | None, done: set[str]) -> str:
    return _INCLUDE.sub(lambda include: _included(include[1], clock, done), text)


def _included(path: str, clock: Path | None, done: set[str]) -> str:
    if path == "operations/*":
        verbs = operations()
        for verb in verbs:
            signature(verb, source(f"operations/{verb}"))
        rows = ",\n".join(f"{verb} = " + _module(source(f"operations/{verb}")) for verb in verbs)
        return f"local operations = {{\n{rows}\n}}\n"
    if path in done:
        return ""
    done.add(path)
    text = clock.read_text(encoding="utf-8") if clock and path == "parts/clock" else source(path)
    needed = "".join(_included(include[1], clock, done) for include in _INCLUDE.finditer(text))
    return f"{needed}local {path.rpartition('/')[2]} = " + _module(_INCLUDE.sub("", text)) + "\n"


def _module(text: str) -> str:
    return f"(function()\n{text.strip()}\nend)()"
