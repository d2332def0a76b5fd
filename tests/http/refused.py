"""What a refusal of a request that is wrong in itself looks like."""

import httpx


def is_invalid(answer: httpx.Response) -> bool:
    assert (400, "invalid_request") == (answer.status_code, answer.json()["code"]), answer.text
    return True
