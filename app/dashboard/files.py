"""Style, script and picture of the pages, and the two libraries that come with the program.

Their path has a digest of all of them, so that browsers keep them for good and never mix two releases.
"""

import hashlib
from importlib.resources import files

from litestar.params import FromPath

from app.http.problems import Problem
from app.http.wire import Answer

TYPES = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
FOR_GOOD = b"public, max-age=31536000, immutable"

_FILES = {
    each.name: each.read_bytes()
    for each in sorted(files("app.dashboard").joinpath("static").iterdir(), key=lambda each: each.name)
    if each.name.rpartition(".")[2] in TYPES
}
DIGEST = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
PATH = f"/dashboard/static/{DIGEST}"


async def static(digest: FromPath[str], name: FromPath[str]) -> Answer[bytes]:
    """A file. Under the digest of another release it is shown, and not kept."""
    if name not in _FILES:
        raise Problem("not_found", {})
    cache = FOR_GOOD if digest == DIGEST else b"no-store"
    return Answer(_FILES[name], media_type=TYPES[name.rpartition(".")[2]], cache=cache)
