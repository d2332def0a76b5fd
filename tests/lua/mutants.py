"""Scripts with one thing broken on purpose, so that the tests can be seen to notice."""

import hashlib

from app.ledger.scripts import Script


def mutated(script: Script, sound: str, broken: str, *, times: int = 1) -> Script:
    """The script with `broken` where it says `sound`, which it must say `times` times."""
    assert script.text.count(sound) == times, f"the script says {sound!r} {script.text.count(sound)} times"
    text = script.text.replace(sound, broken)
    return Script(script.name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
