"""What another server has to say, and no more of it than was asked for."""

import httpx


async def fetched(client: httpx.AsyncClient, url: str, headers: dict[str, str], bytes_max: int) -> bytes:
    """The body of a GET that is answered with 200, as it was sent: what unpacks to more than `bytes_max` is
    not unpacked. Redirects are not followed, whatever `client` is set to.

    Raises:
        httpx.HTTPError: There is no answer.
        ValueError: It is another answer, or a longer one. Shows nothing of the URL, which may hold a secret.
    """
    asked = headers | {"accept": "application/json", "accept-encoding": "identity"}
    read = bytearray()
    async with client.stream("GET", url, headers=asked, follow_redirects=False) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"the answer was {answer.status_code}")
        async for piece in answer.aiter_raw():
            read += piece
            if len(read) > bytes_max:
                raise ValueError(f"the answer was longer than {bytes_max} bytes")
    return bytes(read)
