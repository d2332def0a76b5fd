"""Which globals a Lua 5.1 chunk reads and sets, from its compiled form: also where it never gets to run."""

import struct
from typing import NamedTuple

from lupa.lua51 import LuaRuntime

_GETGLOBAL, _SETGLOBAL = 5, 7


class Globals(NamedTuple):
    """Names that a chunk does not declare."""

    read: set[str]
    written: set[str]


def globals_of(text: str) -> Globals:
    """The names of the globals of a chunk and of every function in it."""
    compiled = LuaRuntime(encoding=None).execute(
        b"return string.dump(assert(loadstring(...)))", text.encode()
    )
    found = Globals(set(), set())
    _Chunk(compiled).function(found)
    return found


class _Chunk:
    """A reader of what `string.dump` gives on a 64-bit machine."""

    def __init__(self, compiled: bytes) -> None:
        assert compiled[:12] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
        self._bytes = compiled
        self._at = 12

    def _next(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return value

    def _text(self) -> str:
        length = self._next("<Q")
        self._at += length
        return self._bytes[self._at - length : self._at - 1].decode() if length else ""

    def _constant(self) -> str | None:
        match self._next("B"):
            case 1:
                self._at += 1
            case 3:
                self._at += 8
            case 4:
                return self._text()
        return None

    def function(self, found: Globals) -> None:
        self._text()
        self._at += 4 + 4 + 4  # first and last line; counts of upvalues, parameters, varargs, registers
        code = [self._next("<I") for _ in range(self._next("<I"))]
        constants = [self._constant() for _ in range(self._next("<I"))]
        for instruction in code:
            name = constants[instruction >> 14] if instruction & 63 in {_GETGLOBAL, _SETGLOBAL} else None
            if name is not None:
                (found.read if instruction & 63 == _GETGLOBAL else found.written).add(name)
        for _ in range(self._next("<I")):
            self.function(found)
        lines = self._next("<I")
        self._at += 4 * lines
        for _ in range(self._next("<I")):
            self._text()
            self._at += 8
        for _ in range(self._next("<I")):
            self._text()
