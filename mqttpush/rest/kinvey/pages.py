"""Pages behind links in mails: a form for a new password, a button to confirm an address.

Owns their HTML, which needs no script and loads nothing. A link does nothing when it is opened,
because mail servers open links too; the form on its page does.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Final
from urllib.parse import parse_qs

from mqttpush.errors import DomainError
from mqttpush.operations.account_links import AccountLinks, Purpose, address_of
from mqttpush.rest.kinvey.users import PASSWORD_LIMIT
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

_HTML: Final = Content(None, ("text/html",))
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem}"
    "label,input,button{display:block;width:100%;box-sizing:border-box;font:inherit}"
    "input,button{margin:.25rem 0 1rem;padding:.5rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_PASSWORD_FORM: Final = (
    '<form method="post">'
    '<label for="password">New password</label>'
    '<input id="password" name="password" type="password" autocomplete="new-password"'
    f' maxlength="{PASSWORD_LIMIT}" required>'
    '<label for="again">The same again</label>'
    '<input id="again" name="again" type="password" autocomplete="new-password"'
    f' maxlength="{PASSWORD_LIMIT}" required>'
    '<button type="submit">Set the password</button></form>'
)
_BUTTON: Final = '<form method="post"><button type="submit">Confirm</button></form>'
_FIELDS_LIMIT: Final = 10


class PageRoutes:
    """/rpc/:appKey/password-reset and /rpc/:appKey/email-verification."""

    def __init__(self, links: AccountLinks) -> None:
        self._links = links

    def table(self) -> Iterator[Route]:
        form = Content(None, (_FORM_TYPE,))
        for purpose, show, use, summary in (
            (Purpose.PASSWORD, self.password_form, self.set_password, "Set a new password"),
            (Purpose.ADDRESS, self.address_form, self.confirm_address, "Confirm an address"),
        ):
            path = f"/rpc/{{appKey}}/{purpose.value}"
            shown = f"{summary}: the page"
            yield Route("GET", path, show, shown, (200,), answer=_HTML, parameters=("token",))
            yield Route("POST", path, use, summary, (200,), form, _HTML, ("token",))

    async def password_form(self, request: ApiRequest) -> ApiResponse:
        try:
            user = await self._links.look(*_link(request, Purpose.PASSWORD))
        except DomainError:
            return _not_good()
        name = escape(user.login_name or user.user_id)
        return _page("New password", f"<p>For the user <b>{name}</b>.</p>{_PASSWORD_FORM}")

    async def set_password(self, request: ApiRequest) -> ApiResponse:
        app_id, _, token = _link(request, Purpose.PASSWORD)
        fields = _fields(request)
        password = fields.get("password", "")
        problem = ""
        if not 1 <= len(password) <= PASSWORD_LIMIT:
            problem = f"A password has 1 to {PASSWORD_LIMIT} characters."
        elif any(ord(character) < 32 or ord(character) == 127 for character in password):
            problem = "A password has no control characters."
        elif fields.get("again") != password:
            problem = "The two passwords are not the same."
        try:
            if problem:
                await self._links.look(app_id, Purpose.PASSWORD, token)
                body = f'<p role="alert">{escape(problem)}</p>{_PASSWORD_FORM}'
                return _page("New password", body, 400)
            await self._links.set_password(app_id, token, password, request.address)
        except DomainError:
            return _not_good()
        return _page("New password", "<p>The new password is set. Log in with it.</p>")

    async def address_form(self, request: ApiRequest) -> ApiResponse:
        try:
            user = await self._links.look(*_link(request, Purpose.ADDRESS))
        except DomainError:
            return _not_good()
        address = escape(address_of(user) or "")
        return _page("Confirm your address", f"<p>Is <b>{address}</b> yours?</p>{_BUTTON}")

    async def confirm_address(self, request: ApiRequest) -> ApiResponse:
        app_id, _, token = _link(request, Purpose.ADDRESS)
        try:
            await self._links.confirm_address(app_id, token)
        except DomainError:
            return _not_good()
        return _page("Confirm your address", "<p>Thank you, the address is confirmed.</p>")


def _link(request: ApiRequest, purpose: Purpose) -> tuple[str, Purpose, str]:
    return request.parameters["appKey"], purpose, request.query.get("token", "")


def _fields(request: ApiRequest) -> dict[str, str]:
    """What was typed; nothing where the body is no form."""
    if request.content_type != _FORM_TYPE:
        return {}
    try:
        found = parse_qs(
            request.body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS_LIMIT,
        )
    except ValueError:
        return {}
    return {name: values[0] for name, values in found.items()}


def _not_good() -> ApiResponse:
    """The same for every reason, so that nobody learns from it."""
    text = "<p>This link is not good any more. Ask for another mail.</p>"
    return _page("This link has ended", text, 400)


def _page(title: str, body: str, status: int = 200) -> ApiResponse:
    """body: HTML, all that is somebody's escaped."""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )
    return ApiResponse(status, html.encode(), "text/html; charset=utf-8", dict(_HEADERS))
