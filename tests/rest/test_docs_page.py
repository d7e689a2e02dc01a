"""The page at /docs: all of it from the package, nothing that a browser would run by mistake."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from mqttpush.rest import documents
from tests.support.server import Server

FILES = ("/docs", "/docs/page.css", "/docs/page.js")
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class _Page(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def get(server: Server, path: str) -> httpx.Response:
    response = httpx.get(f"{server.url}{path}", trust_env=False)
    assert response.status_code == 200
    return response


def test_a_browser_may_load_nothing_from_elsewhere(server: Server) -> None:
    for path in FILES:
        headers = get(server, path).headers
        assert set(headers["content-security-policy"].split("; ")) == POLICY
        assert headers["x-content-type-options"] == "nosniff"


def test_all_that_the_page_loads_is_served_here(server: Server) -> None:
    page = _Page(get(server, "/docs").text)
    loaded = {
        attributes.get("src") or attributes.get("href")
        for tag, attributes in page.tags
        if tag in ("script", "link", "img", "iframe")
    }
    assert loaded == {"/docs/page.css", "/docs/page.js"}
    for path in FILES:
        assert not re.search(r"https?:|//\w", get(server, path).text.replace("// ", ""))


def test_the_page_has_no_script_or_style_of_its_own(server: Server) -> None:
    page = _Page(get(server, "/docs").text)
    assert all(attributes.get("src") for tag, attributes in page.tags if tag == "script")
    assert not [tag for tag, _ in page.tags if tag == "style"]
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name == "style"}


def test_texts_never_become_markup(server: Server) -> None:
    script = get(server, "/docs/page.js").text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function\(", script
    )


def test_the_page_s_files_lie_in_the_package() -> None:
    folder = Path(documents.__file__).parent / "docs"
    assert {path.name for path in folder.iterdir()} == {"page.html", "page.css", "page.js"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_every_operation(server: Server, tmp_path: Path) -> None:
    document = get(server, "/openapi.json").json()
    names = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert CHROMIUM
    shown = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"{server.url}/docs#postInstallations",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    identifiers = {str(attributes.get("id")) for _, attributes in _Page(shown).tags}
    assert set(names) <= identifiers
    assert f"{len(names)} operations" in shown
    assert "installationRegistrationID" in shown  # the linked one is open
