"""Whether the API answers, asked over HTTP as anybody would."""

import http.client
import time

_ANSWER_SECONDS = 1.0
_EXPLAIN_SECONDS = 10.0


class Readiness:
    """Of the API at a host and port. `url` is where people find it, `answer` what it said last, in words."""

    def __init__(self, host: str, port: int) -> None:
        self._host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        self._port = port
        self.answer = "no answer yet"
        self._explain_at = time.monotonic() + _EXPLAIN_SECONDS
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{shown}:{port}"

    def ask(self) -> bool:
        """Whether `/health/ready` says yes now; takes a second at most."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            text = answer.read(1000).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self.answer = f"the API does not answer yet ({error})"
            return False
        finally:
            connection.close()
        self.answer = f"{answer.status} {text}"
        return answer.status == http.HTTPStatus.OK

    def explanation(self) -> str | None:
        """What was answered last, said once, when it has been taking unusually long."""
        if time.monotonic() < self._explain_at:
            return None
        self._explain_at = float("inf")
        return f"not ready yet: {self.answer}"
