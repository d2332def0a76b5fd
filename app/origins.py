"""Origins of pages that may ask from a browser, as a setting names them."""

from urllib.parse import urlsplit


def origins(text: str) -> frozenset[bytes]:
    """The origins of a comma list.

    Raises:
        ValueError: One of them is none; says which, and what would be right.
    """
    named = [each.strip() for each in text.split(",")] if text.strip() else []
    for each in named:
        if not _is_origin(each):
            raise ValueError(
                f"LASTRO_CORS_ORIGINS={text}: {each!r} is not an origin, such as https://shop.example or "
                "http://localhost:3000: in lower case, without a path, without *"
            )
    return frozenset(each.encode() for each in named)


def _is_origin(text: str) -> bool:
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        return False
    host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
    shown = f"{url.scheme}://{host}" + (f":{port}" if port else "")
    return (
        url.scheme in ("http", "https")
        and bool(host)
        and "*" not in text
        and text.isascii()
        and text == shown
    )
