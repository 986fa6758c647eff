"""An operator at the admin's forms: signs in, changes fields, saves; real sessions and CSRF tokens."""

import re
from html.parser import HTMLParser

import httpx

from tests.gateway import Gateway


class AdminSession:
    """Forms are read from their pages, so that whatever a page sends along is sent back."""

    def __init__(self, gateway: Gateway, *, login: str = "/login/?next=/admin/") -> None:
        """Sign in with the password of the first start."""
        self._client = httpx.Client(base_url=f"{gateway.url}/admin", follow_redirects=True, timeout=30)
        form = self._client.get(login)  # it leads to the one sign-in page
        fields = _form(form.text) | {"username": "admin", "password": gateway.admin_password}
        page = self._client.post(form.url, data=_sent(fields))
        assert page.status_code == 200
        assert "/login/" not in str(page.url), "the admin did not let us in"

    def close(self) -> None:
        """Forget the session."""
        self._client.close()

    def get(self, path: str) -> str:
        """Return a page's HTML."""
        page = self._client.get(path)
        assert page.status_code == 200, (path, page.status_code)
        return page.text

    def submit(self, path: str, **changes: str | None) -> httpx.Response:
        """Change fields of the page's form and save it; None leaves a field out (an unchecked box)."""
        return self._post(path, _form(self.get(path)) | changes)

    def save(self, path: str, **changes: str | None) -> httpx.Response:
        """Submit a change form; fail with its messages when it comes back."""
        page = self.submit(path, **{"_save": "Save", **changes})
        assert "Please correct the error" not in page.text, _errors(page.text)
        return page

    def press(self, path: str) -> httpx.Response:
        """Press a button that asks first: its dialog is fetched and confirmed, as the page's script does."""
        asked = {"HX-Request": "true"}
        dialog = self._client.get(path, headers=asked)
        answer = self._client.post(path, data=_sent(_form(dialog.text)), headers=asked)
        assert answer.status_code == 200, answer.text[:500]
        return answer

    def act(self, model: str, action: str, text: str) -> httpx.Response:
        """Choose an action of a list for the row that it shows `text` in."""
        row = self.change_path(model, text).split("/")[-3]
        return self._post(
            f"/{model}/", _form(self.get(f"/{model}/")) | {"action": action, "_selected_action": row}
        )

    def change_path(self, model: str, text: str) -> str:
        """Return the path of the change form of the row that a list shows `text` in."""
        rows = re.split(rf'href="/admin(/{model}/[^/"]+/change/)', self.get(f"/{model}/"))
        for path, row in zip(rows[1::2], rows[2::2], strict=True):
            if re.search(rf">\s*{re.escape(text)}\s*<", row):
                return path
        raise AssertionError(f"{text} is not in the list of {model}")

    def _post(self, path: str, fields: dict[str, str | None]) -> httpx.Response:
        page = self._client.post(path, data=_sent(fields))
        assert page.status_code == 200, (path, page.status_code, page.text[:500])
        return page


class _Fields(HTMLParser):
    """Collects the fields of the forms that send by POST."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str | None] = {}
        self._posting = False
        self._select = self._textarea = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        name = found.get("name") or ""
        if tag == "form":
            self._posting = (found.get("method") or "").lower() == "post"
        elif not self._posting or "__prefix__" in name:
            return
        elif tag == "input" and name:
            self._input(name, found)
        elif tag == "select" and name:
            self._select = name
            self.values.setdefault(name, None)
        elif tag == "option" and self._select and ("selected" in found or self.values[self._select] is None):
            self.values[self._select] = found.get("value") or ""
        elif tag == "textarea" and name:
            self._textarea = name
            self.values[name] = ""

    def _input(self, name: str, found: dict[str, str | None]) -> None:
        kind = found.get("type") or "text"
        if kind in {"checkbox", "radio"} and "checked" not in found:
            return
        if kind not in {"submit", "button", "image"}:
            self.values[name] = found.get("value") or ("on" if kind == "checkbox" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._posting = False
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.values[self._textarea] = (self.values[self._textarea] or "") + data


def _sent(fields: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _form(html: str) -> dict[str, str | None]:
    fields = _Fields()
    fields.feed(html)
    return fields.values


def _errors(html: str) -> str:
    return " | ".join(re.findall(r'<ul[^>]*class="[^"]*errorlist[^"]*"[^>]*>(.*?)</ul>', html, re.DOTALL))
