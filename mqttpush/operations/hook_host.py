"""What running code may ask of the server, and what it is told (spec kinvey 8.7).

Owns the table of questions. Knows no language. The one idea: a question is a verb called as the
app's administrator, one run deeper than the code that asks, so that the loop guard can count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any, Final

import orjson

from mqttpush.access import refusal
from mqttpush.config import EmailSettings
from mqttpush.errors import DomainError, InvalidRequest, LimitReached, MqttPushError
from mqttpush.hooks import Call, HostRefused
from mqttpush.models import Credentials, Json
from mqttpush.operations import Operations
from mqttpush.operations.broadcasts import message_of, recipients_of
from mqttpush.operations.collection_access import CollectionAccess
from mqttpush.operations.context import Context
from mqttpush.operations.mailer import PROBLEMS, Mailer
from mqttpush.store import Transaction

# (app ID, credentials, method, path below the app, body, content type) -> status, headers, body.
CallApi = Callable[[Credentials, str, str, bytes, str], Awaitable[tuple[int, dict[str, str], Any]]]
_Answering = Callable[[Credentials, list[Any]], Awaitable[Any]]
MAILS_AT_ONCE: Final = 32  # of one app, under way
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class HookHost:
    """`Host` over the verbs. call_api: a REST request inside this process."""

    def __init__(
        self,
        context: Context,
        operations: Operations,
        *,
        email: EmailSettings,
        call_api: CallApi,
    ) -> None:
        self._context = context
        self._operations = operations
        self._mailer = Mailer(email)
        self._mail_counts: Counter[str] = Counter()
        self._call_api = call_api
        self._collections = CollectionAccess(context, operations.accounts)
        self._answers: dict[tuple[str, str], _Answering] = {
            ("push", "sendMessage"): self._send_message,
            ("push", "sendPayload"): self._send_payload,
            ("push", "broadcastMessage"): self._broadcast_message,
            ("push", "broadcastPayload"): self._broadcast_payload,
            ("email", "send"): self._send_email,
            ("api", "request"): self._request,
        }

    async def ask(self, call: Call, module: str, function: str, arguments: list[Any]) -> Any:
        """Raises HostRefused for what the code's callback gets as its error."""
        secret = self._context.secrets.service_secret(call.app_id, call.depth + 1)
        credentials = Credentials(call.app_id, app_secret=secret)
        try:
            if module == "collectionAccess":
                return await self._collections.ask(credentials, function, arguments)
            answer = self._answers.get((module, function))
            if answer is None:
                raise HostRefused("BadRequest", f"there is no {module}.{function}")
            return await answer(credentials, arguments)
        except LimitReached as exc:
            raise HostRefused("TooManyRequests", "A limit is reached", str(exc)) from exc
        except InvalidRequest as exc:
            name = exc.code if exc.code and not exc.code.isupper() else "BadRequest"
            raise HostRefused(name, "The request is not acceptable", str(exc)) from exc
        except DomainError as exc:
            raise HostRefused("BadRequest", "The server refused this", str(exc)) from exc
        except HostRefused:
            raise
        except MqttPushError as exc:
            problem = "The server is busy; try again"
            raise HostRefused("KinveyInternalErrorRetry", problem, str(exc)) from exc

    # --- push -------------------------------------------------------------------------------

    async def _send_message(self, credentials: Credentials, arguments: list[Any]) -> Json:
        users, message = _padded(arguments, 2)
        return await self._send(credentials, users, message)

    async def _send_payload(self, credentials: Credentials, arguments: list[Any]) -> Json:
        users, *parts = _padded(arguments, 4)
        return await self._send(credentials, users, _payload(parts))

    async def _broadcast_message(self, credentials: Credentials, arguments: list[Any]) -> Json:
        return await self._broadcast(credentials, _padded(arguments, 1)[0])

    async def _broadcast_payload(self, credentials: Credentials, arguments: list[Any]) -> Json:
        return await self._broadcast(credentials, _payload(_padded(arguments, 3)))

    async def _send(self, credentials: Credentials, users: Any, content: Any) -> Json:
        if users is None:
            raise HostRefused("MissingRequestParameter", "There are no users to send to")
        recipients, message = recipients_of(users), message_of(content)
        sent = await self._operations.broadcasts.send_message(credentials, recipients, message)
        return sent.answer()

    async def _broadcast(self, credentials: Credentials, content: Any) -> Json:
        message = message_of(content)
        sent = await self._operations.broadcasts.send_broadcast(credentials, message)
        return sent.answer()

    # --- mail -------------------------------------------------------------------------------

    async def send_email(self, credentials: Credentials, arguments: list[Any]) -> None:
        """The same for services, over REST; for the administrator. Raises InvalidRequest."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            if not principal.is_admin:
                raise refusal(principal, "send mail")

        await self._context.store.read(unit)
        try:
            await self._send_email(credentials, arguments)
        except HostRefused as exc:
            raise InvalidRequest(f"{exc.description} {exc.debug}".strip(), code=exc.error) from exc

    async def _send_email(self, credentials: Credentials, arguments: list[Any]) -> Json:
        if not self._mailer.settings.host:
            raise HostRefused("MissingConfiguration", "No mail server is configured (email.host)")
        message, app_id = _mail(_padded(arguments, 8)), credentials.app_id
        if self._mail_counts[app_id] >= MAILS_AT_ONCE:
            raise LimitReached("email.mails_at_once", retry_after_s=1)
        self._mail_counts[app_id] += 1
        try:
            await self._mailer.send(message)
        except PROBLEMS as exc:
            problem = "The mail server did not take it"
            raise HostRefused("BadRequest", problem, f"{type(exc).__name__}: {exc}") from exc
        finally:
            self._mail_counts[app_id] -= 1
            self._mail_counts += Counter()  # forget those at 0
        return {}

    # --- the REST API -----------------------------------------------------------------------

    async def _request(self, credentials: Credentials, arguments: list[Any]) -> Json:
        method, path, body, content_type = _padded(arguments, 4)
        if method not in _METHODS or not isinstance(path, str) or not path.startswith("/"):
            raise HostRefused("BadRequest", "A request needs a method and a path below the app")
        if path.partition("?")[0].split("/")[1] == "server-code":
            raise HostRefused("BadRequest", "Server code may not call server code")
        content = b"" if body is None else orjson.dumps(body)
        status, headers, answer = await self._call_api(
            credentials, method, path, content, content_type or "application/json"
        )
        return {"status": status, "headers": headers, "body": answer}


def _padded(arguments: list[Any], count: int) -> list[Any]:
    """Extra arguments are ignored, missing ones are null (8.7)."""
    return [*arguments, *[None] * count][:count]


def _payload(parts: list[Any]) -> Json:
    """aps, extras and androidPayload as the REST API has them."""
    return dict(zip(("iOSAps", "iOSExtras", "androidPayload"), parts, strict=True))


def _mail(arguments: list[Any]) -> EmailMessage:
    """Raises HostRefused for what is no mail; header injection is refused by EmailMessage."""
    sender, to, subject, text, reply_to, html, cc, bcc = arguments
    message = EmailMessage()
    headers = {"From": sender, "To": to, "Reply-To": reply_to, "Cc": cc, "Bcc": bcc}
    try:
        for name, value in headers.items():
            if value:
                message[name] = ", ".join(value) if isinstance(value, list) else str(value)
        message["Subject"] = str(subject or "")
        message.set_content(str(text or ""))
        if html:
            message.add_alternative(str(html), subtype="html")
    except (ValueError, TypeError) as exc:
        raise HostRefused("BadRequest", "This is no mail", str(exc)) from exc
    if not (parseaddr(str(sender or ""))[1] and to):
        raise HostRefused("BadRequest", "A mail needs from and to")
    return message
