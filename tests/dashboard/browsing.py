"""A browser without scripts: it keeps cookies, reads forms and sends them as they stand on the page."""

from html.parser import HTMLParser
from typing import Any

import httpx

ORIGIN = "http://lastro.test"
HOME = "/dashboard"


class Form:
    """A form of a page: where it goes, and what is in its fields."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._select: str | None = None
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag == "form":
            self._open = Form(given.get("action", ""))
            self.forms.append(self._open)
        if self._open is None:
            return
        if tag in ("input", "textarea") and "name" in given:
            if given.get("type") == "radio" and "checked" not in given:
                return
            self._open.fields[given["name"]] = given.get("value", "")
        if tag == "select":
            self._select = given["name"]
        if (
            tag == "option"
            and self._select
            and ("selected" in given or self._select not in self._open.fields)
        ):
            self._open.fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        if tag == "select":
            self._select = None

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


class Page:
    """An answer as a page."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.status = answer.status_code
        self.html = answer.text
        reader = _Reader()
        reader.feed(self.html)
        self.forms, self.tags = reader.forms, reader.tags
        self.text = " ".join(reader.texts)

    def form(self, action: str) -> Form:
        """The form that goes there."""
        (found,) = [each for each in self.forms if each.action == action]
        return found

    def links(self) -> list[str]:
        return [given["href"] for tag, given in self.tags if tag == "a"]


class Browser:
    """Follows where an answer to a form leads, as browsers do."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **headers: str) -> Page:
        return Page(await self.http.get(path, headers=headers, follow_redirects=True))

    async def post(self, path: str, fields: dict[str, Any], **headers: str) -> httpx.Response:
        """A form, as it is answered."""
        return await self.http.post(path, data=fields, headers={"origin": ORIGIN, **headers})

    async def send(self, form: Form, **fields: Any) -> Page:
        """A form of a page with these fields filled in, and what one sees then."""
        answer = await self.post(form.action, {**form.fields, **fields})
        if answer.is_redirect:
            return await self.get(answer.headers["location"])
        return Page(answer)

    async def sign_in(self, key: str) -> Page:
        page = await self.get(f"{HOME}/login")
        return await self.send(page.form(f"{HOME}/login"), key=key)
