"""The OpenAPI document as a judge: every answer that a test gets must be one that the document describes."""

import re
from typing import Any

import httpx
import msgspec
from jsonschema import Draft202012Validator, FormatChecker
from litestar import Litestar

from app.http.docs import described

UNROUTED = {"not_found", "method_not_allowed"}

_MADE: dict[frozenset[tuple[str, ...]], "Contract"] = {}


class Contract:
    """Judges answers by the document of an application."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.paths = {
            re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(path)) + "/?"): operations
            for path, operations in document["paths"].items()
        }

    @classmethod
    def of(cls, app: Litestar) -> "Contract":
        """The same for all applications with these routes: to make the document takes half a second."""
        routes = frozenset((route.path, *sorted(route.methods)) for route in app.routes)
        if routes not in _MADE:
            document = described(app.openapi_schema.to_schema())
            _MADE[routes] = cls(msgspec.json.decode(msgspec.json.encode(document)))
        return _MADE[routes]

    async def judge(self, response: httpx.Response) -> None:
        """An httpx response hook. Pages of `/docs` and paths that do not exist are not in the document."""
        await response.aread()
        operation = self._operation(response.request)
        if operation is None:
            if response.request.method != "OPTIONS" and not response.request.url.path.startswith("/docs"):
                assert response.json()["code"] in UNROUTED
            return
        described = operation["responses"]
        status = str(response.status_code)
        if status == "304":
            assert response.content == b""
            return
        assert status in described, f"{status} is not described: {response.text}"
        media_type = response.headers["content-type"].partition(";")[0]
        assert media_type in described[status]["content"], media_type
        if not media_type.endswith("json"):
            return
        self._validate(described[status]["content"][media_type]["schema"], response.json())
        if media_type == "application/problem+json":
            problem = response.json()
            assert response.status_code == problem["status"]
            assert f"`{problem['code']}`" in described[status]["description"], problem["code"]

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        for path, operations in self.paths.items():
            if path.fullmatch(request.url.path):
                found: dict[str, Any] | None = operations.get(request.method.lower())
                return found
        return None

    def _validate(self, schema: dict[str, Any], value: Any) -> None:
        rooted = {**schema, "components": self.document["components"]}
        Draft202012Validator(rooted, format_checker=FormatChecker()).validate(value)
