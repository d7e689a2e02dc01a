"""Mail to users who ask for it: a new password, a confirmed address, forgotten names.

Owns the queue of requests and the words of mails. Knows no page. The one idea: whoever asks is
answered before anybody is looked for, so neither the answer nor its time tells who is there.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final
from urllib.parse import quote, urlsplit

from mqttpush.config import Settings
from mqttpush.errors import InvalidRequest, LimitReached, MqttPushError
from mqttpush.metrics import Metrics
from mqttpush.models import User
from mqttpush.operations.account_links import (
    AccountLinks,
    Purpose,
    address_of,
    is_address,
    may_have_link,
)
from mqttpush.operations.context import Context
from mqttpush.operations.mailer import PROBLEMS, Mailer
from mqttpush.peers import Networks, RateLimiter, address_key
from mqttpush.store import Transaction
from mqttpush.store.queries import EntityQuery, Test

_log = logging.getLogger(__name__)

WORKERS: Final = 4
USERS_OF_ADDRESS: Final = 20  # as many stand in one mail
_HOUR_S: Final = 3600
_ADDRESS_RATE: Final = "email.max_requests_per_hour_per_address"
_RECIPIENT_RATE: Final = "email.max_mails_per_hour_per_recipient"
_SUBJECTS: Final = {
    Purpose.PASSWORD: "Set a new password",
    Purpose.ADDRESS: "Confirm your e-mail address",
    Purpose.USERNAMES: "Your user name",
}
_LINK_TEXTS: Final = {
    Purpose.PASSWORD: "Somebody asked for a new password. To set one, open",
    Purpose.ADDRESS: "To confirm that this e-mail address is yours, open",
}
_ENDINGS: Final = {
    Purpose.PASSWORD: "If it was not you, do nothing: the password stays as it is.",
    Purpose.ADDRESS: "If you do not know of this, do nothing.",
}


@dataclass(frozen=True, slots=True)
class _Request:
    """name: a user's name or address, as it was typed."""

    app_id: str
    purpose: Purpose
    name: str


@dataclass(frozen=True, slots=True)
class _Letter:
    """One mail, before it has a sender."""

    address: str
    subject: str
    text: str


class AccountMail:
    """Takes requests for mail, and works them off.

    settings: as they are now; those of mail are taken at the start. clock: seconds, monotonic.
    """

    def __init__(
        self,
        context: Context,
        *,
        settings: Callable[[], Settings],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._context = context
        self.links = AccountLinks(context)
        self._settings = email = settings().email
        self._current = settings
        self._metrics = metrics
        self._clock = clock
        self._mailer = Mailer(email)
        self._waiting: asyncio.Queue[_Request] = asyncio.Queue(email.max_waiting)
        self._by_address = _in_hour(email.max_requests_per_hour_per_address)
        self._by_recipient = _in_hour(email.max_mails_per_hour_per_recipient)

    def ask(self, app_id: str, purpose: Purpose, name: str, address: str) -> None:
        """Have a mail sent, later, if there is somebody to send it to. address: who asks.

        Raises InvalidRequest where mail is not configured, LimitReached.
        """
        self.require(purpose)
        if address and not Networks(self._current().http.unlimited_addresses).contains(address):
            key, now = address_key(address), self._clock()
            wait_s = self._by_address.wait_s(key, now)
            if wait_s > 0:
                raise LimitReached(_ADDRESS_RATE, retry_after_s=wait_s)
            self._by_address.charge(key, now)
        try:
            self._waiting.put_nowait(_Request(app_id, purpose, name))
        except asyncio.QueueFull:
            raise LimitReached("email.max_waiting", retry_after_s=60) from None

    def require(self, purpose: Purpose) -> None:
        """Raises InvalidRequest where mail of this purpose is not configured.

        A link needs `http.public_url`: the Host of a request is whatever a stranger writes there.
        """
        if not self._settings.host:
            raise InvalidRequest("needs a mail server (email.host)", code="FeatureUnavailable")
        if not self._current().http.public_url and purpose is not Purpose.USERNAMES:
            raise InvalidRequest("needs http.public_url for links", code="FeatureUnavailable")

    async def run(self) -> None:
        """Work requests off, until cancelled; those that wait then are forgotten."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"mail to users {number}")

    async def _work(self) -> None:
        while True:
            request = await self._waiting.get()
            try:
                await self._serve(request)
            except (MqttPushError, *PROBLEMS) as exc:
                _log.warning("mail to a user of %s failed: %s", request.app_id, _told(exc))
            except Exception:
                _log.exception("mail to a user of %s failed", request.app_id)

    async def _serve(self, request: _Request) -> None:
        letters = await self._context.store.search(lambda tx: list(self._letters(tx, request)))
        for letter in letters:
            recipient, now = letter.address.lower(), self._clock()
            if self._by_recipient.is_spent(recipient, now):
                self._metrics.limits_reached.add(_RECIPIENT_RATE)
                continue
            self._by_recipient.charge(recipient, now)
            await self._mailer.send(self._message(letter))

    def _letters(self, tx: Transaction, request: _Request) -> Iterator[_Letter]:
        """One to each address of the users who are meant."""
        app = tx.apps.get(request.app_id)
        if app is None or app.is_disabled:
            return
        users_by_address: dict[str, list[User]] = {}
        for user in _meant(tx, request):
            address = address_of(user)
            if address is not None and may_have_link(request.purpose, user):
                users_by_address.setdefault(address, []).append(user)
        subject = f"{_one_line(app.name)}: {_SUBJECTS[request.purpose]}"
        for address, users in users_by_address.items():
            yield _Letter(address, subject, self._text(request.purpose, users))

    def _text(self, purpose: Purpose, users: list[User]) -> str:
        if purpose is Purpose.USERNAMES:
            names = "\n".join(f"  {_name_of(user)}" for user in users)
            return f"With this e-mail address you are known as\n\n{names}\n"
        lifetime_s = self._settings.link_lifetime_s
        parts = [
            f"{_LINK_TEXTS[purpose]}\n\n{self._link(purpose, user)}\n\nUser: {_name_of(user)}\n"
            for user in users
        ]
        minutes = f"The link works once, for {lifetime_s // 60} minutes. {_ENDINGS[purpose]}\n"
        return "\n".join([*parts, minutes])

    def _link(self, purpose: Purpose, user: User) -> str:
        token = self.links.token(purpose, user, self._settings.link_lifetime_s)
        base_url = self._current().http.public_url.rstrip("/")
        return f"{base_url}/rpc/{user.app_id}/{purpose.value}?token={quote(token, safe='')}"

    def _message(self, letter: _Letter) -> EmailMessage:
        host = urlsplit(self._current().http.public_url).hostname or "localhost"
        settings = self._settings
        own = settings.username if is_address(settings.username) else f"no-reply@{host}"
        message = EmailMessage()
        message["From"] = settings.sender or own
        message["To"] = letter.address
        message["Subject"] = letter.subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=host)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holidays answer it
        message.set_content(letter.text)
        return message


def _meant(tx: Transaction, request: _Request) -> Iterator[User]:
    """Who has this name, and who this address: a name may look like somebody else's address."""
    app_id, name = request.app_id, request.name
    named = None
    if request.purpose is not Purpose.USERNAMES:
        named = tx.users.get_by(app_id, "login_name", name)
    if named is not None:
        yield named
    if not is_address(name):
        return
    query = EntityQuery(Test(("email",), "$eq", name), limit=USERS_OF_ADDRESS)
    for user in tx.entities.find_users(app_id, query, None, limit_bytes=_FOUND_LIMIT_BYTES):
        if named is None or user.user_id != named.user_id:
            yield user


# 20 users of 64 KiB each.
_FOUND_LIMIT_BYTES: Final = 2_097_152


def _name_of(user: User) -> str:
    return _one_line(user.login_name or user.user_id)


def _one_line(text: str) -> str:
    """The text as it may stand in a header or a line."""
    return "".join(each if each.isprintable() else " " for each in text)


def _told(error: Exception) -> str:
    """What went wrong, without addresses: a log is read by others."""
    code = error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else ""
    return f"{type(error).__name__} {code}".strip()


def _in_hour(count: int) -> RateLimiter:
    return RateLimiter(per_s=count / _HOUR_S, burst=count)
