"""FCM: the HTTP v1 API, with the access token of a service account.

Owns the service account's file, its access token and where FCM's answers carry their code. Knows no
retry. The one idea: a token is fetched by the first who needs one while the others wait, is renewed
before it ends and once when FCM refuses it; a refusal is remembered for a while, so a key that was
withdrawn does not cost a request a push.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.networks import Keys, Network, Push, Sent, answers
from mqttpush.networks.fields import check_rsa_private_key, matching_field, text_field
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.kept import PerApp, SharedWork
from mqttpush.networks.tokens import is_token

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
# Renewed so long before its end: longer than any request takes.
_RENEW_BEFORE_S: Final = 300.0
_REFUSAL_KEPT_S: Final = 10.0
_MAX_TTL_S: Final = 2_419_200  # four weeks
# A payload's own ttl stands if no more than this of its time is gone.
_TTL_SLACK_S: Final = 60
_TEST_TOPIC: Final = "mqttpush-test"
_HEADER_VALUE: Final = re.compile(r"[!-~]+")
_FIELDS: Final = (
    "type",
    "project_id",
    "private_key_id",
    "private_key",
    "client_email",
    "token_uri",
)


class FcmNetwork:
    """FCM for all apps. clock: wall-clock seconds."""

    def __init__(self, *, settings: NetworkSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._http = HttpClient(settings)
        self._accounts = PerApp(self._make_account)

    def check(self, app_id: str, fields: Mapping[str, Any]) -> Keys:
        """fields: the service account's JSON, as downloaded from the Firebase console."""
        kind = text_field(fields, "type") if "type" in fields else ""
        if kind != "service_account":
            hint = "google-services.json is for the device" if "project_info" in fields else ""
            hint = hint or "create a key of a service account in the Firebase console"
            problem = f"must be `service_account`: this is another file ({hint})"
            raise InvalidRequest(problem, field="type")
        shape = r"[a-z0-9][a-z0-9.:-]{3,62}"
        project = matching_field(fields, "project_id", shape, "must be the ID of a project")
        problem = "must be the address of a service account"
        email = matching_field(fields, "client_email", r"[^\s@]+@[^\s@]+", problem)
        self._check_token_uri(fields)
        if fields.get("universe_domain", "googleapis.com") != "googleapis.com":
            raise InvalidRequest("must be googleapis.com", field="universe_domain")
        check_rsa_private_key(text_field(fields, "private_key"), "private_key")
        kept = {name: fields[name] for name in _FIELDS if isinstance(fields.get(name), str)}
        try:
            _credentials(kept)
        except (ValueError, TypeError, GoogleAuthError) as exc:
            problem = f"cannot be read, is the file whole? ({answers.one_line(str(exc))})"
            raise InvalidRequest(problem, field="private_key") from exc
        summary = {"projectID": project, "clientEmail": email}
        if "private_key_id" in kept:
            summary["privateKeyID"] = kept["private_key_id"][:64]
        return Keys(app_id, Network.FCM, kept, summary)

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt, and a second with a new access token if FCM refuses the one there was."""
        if not is_token(Network.FCM, push.token):
            return answers.ours(answers.TOKEN_INVALID)
        remaining_s = max(0, int(push.expires_ms / 1000 - self._clock()))
        return await self._post(keys, render(push, remaining_s))

    async def test(self, keys: Keys, token: str | None) -> Sent:
        """A dry run to the device, or to a topic without one."""
        if token is not None and not is_token(Network.FCM, token):
            return answers.ours(answers.TOKEN_INVALID)
        message = {"token": token} if token else {"topic": _TEST_TOPIC}
        body = {"message": {**message, "data": {"test": "test"}}, "validate_only": True}
        return await self._post(keys, orjson.dumps(body))

    async def close(self) -> None:
        """End the connections."""
        await self._http.close()

    def _check_token_uri(self, fields: Mapping[str, Any]) -> None:
        """A file of a stranger must not choose whom this server proves its key to."""
        token_uri = text_field(fields, "token_uri")
        allowed = {self._settings.fcm_token_url, "https://accounts.google.com/o/oauth2/token"}
        if token_uri not in allowed:
            problem = f"must be {self._settings.fcm_token_url}"
            raise InvalidRequest(problem, field="token_uri")

    def _make_account(self, keys: Keys) -> _Account:
        fields = {**keys.fields, "token_uri": self._settings.fcm_token_url}
        return _Account(fields, self._http, self._clock)

    async def _post(self, keys: Keys, body: bytes) -> Sent:
        account = self._accounts.of(keys)
        url = f"{self._settings.fcm_url}/v1/projects/{keys.fields['project_id']}/messages:send"
        stale = ""
        while True:
            try:
                token = await account.access_token(stale)
                headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
                answer = await self._http.post(url, headers, body)
            except WayFailed as exc:
                return answers.way_failed(exc.was_sent and bool(account.token), str(exc))
            except TokenRefused as exc:
                return self._sent(exc.answer, exc.code, exc.words)
            if answer.status == 200:
                return answers.sent(Network.FCM, 200, "")
            code, words = read_error(answer.body)
            renews = answers.meaning(Network.FCM, answer.status, code).renews
            if stale or not renews or not account.may_renew(token):
                return self._sent(answer, code, words)
            stale = token

    def _sent(self, answer: Answer, code: str, words: str) -> Sent:
        now_s = self._clock()
        limit_s = self._settings.max_retry_after_s
        pause = answer.header("Retry-After")
        if answer.status in (400, 401):
            words = f"{answers.clock_hint(answer.header('Date'), now_s)} {words}".strip()
        return answers.sent(
            Network.FCM,
            answer.status,
            code,
            detail=words,
            retry_after_s=answers.retry_after_s(pause, now_s=now_s, limit_s=limit_s),
        )


class TokenRefused(Exception):
    """The token endpoint did not give an access token."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.code, self.words = "", ""
        try:
            parsed = orjson.loads(answer.body)
            self.code = f"oauth:{parsed['error']}"
            self.words = str(parsed.get("error_description", ""))
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            pass
        super().__init__(self.code or str(answer.status))


class _Account:
    """One service account and its access token."""

    def __init__(
        self, fields: Mapping[str, Any], http: HttpClient, clock: Callable[[], float]
    ) -> None:
        self._credentials = _credentials(fields)
        self._http = http
        self._clock = clock
        self._shared: SharedWork[str] = SharedWork()
        self.token = ""
        self._renew_at_s = 0.0
        self._next_renewal_at_s = 0.0
        self._refusal: TokenRefused | None = None
        self._ask_again_at_s = 0.0

    async def access_token(self, stale: str) -> str:
        """A token other than `stale`, which was refused. Raises TokenRefused or WayFailed."""
        if self.token and self.token != stale and self._clock() < self._renew_at_s:
            return self.token
        return await self._shared.run(self._fetch)

    def may_renew(self, refused: str) -> bool:
        """Is there a token other than the refused one, or may one be asked for again so soon?"""
        if self.token != refused:
            return True
        if self._clock() < self._next_renewal_at_s:
            return False
        self._next_renewal_at_s = self._clock() + _REFUSAL_KEPT_S
        return True

    async def _fetch(self) -> str:
        if self._refusal is not None and self._clock() < self._ask_again_at_s:
            raise self._refusal
        bridge = _Bridge(asyncio.get_running_loop(), self._http)
        self.token = ""
        try:
            # The library blocks: it signs, and asks through the bridge.
            await asyncio.to_thread(self._credentials.refresh, bridge)
        except TokenRefused as exc:
            if answers.meaning(Network.FCM, exc.answer.status, exc.code).ending is not None:
                self._refusal, self._ask_again_at_s = exc, self._clock() + _REFUSAL_KEPT_S
            raise
        except GoogleAuthError as exc:
            raise WayFailed(f"no access token: {exc}", was_sent=False) from exc
        self._refusal = None
        # The library's expiry is of the system's clock; what matters is how long from now.
        self.token = str(self._credentials.token)
        self._renew_at_s = self._clock() + max(0.0, bridge.valid_s - _RENEW_BEFORE_S)
        return self.token


class _Response(NamedTuple):
    """What google-auth wants to see of an answer."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Bridge:
    """google-auth's transport: its blocking calls in a thread, our client in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, http: HttpClient) -> None:
        self._loop = loop
        self._http = http
        self.valid_s = 0.0

    def __call__(
        self,
        url: str,
        method: str = "POST",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> _Response:
        assert method == "POST"
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        post = self._http.post(url, lines, body or b"")
        answer = asyncio.run_coroutine_threadsafe(post, self._loop).result()
        if answer.status != 200:
            raise TokenRefused(answer)  # at once: the library would sleep and ask again
        try:
            given = orjson.loads(answer.body)
            if not _HEADER_VALUE.fullmatch(given["access_token"]):
                raise ValueError("access_token")
            self.valid_s = float(given["expires_in"])
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError) as exc:
            raise WayFailed("the answer holds no access token", was_sent=False) from exc
        return _Response(200, {}, answer.body)


def _credentials(fields: Mapping[str, Any]) -> service_account.Credentials:
    made: service_account.Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
        dict(fields), scopes=[_SCOPE]
    )
    return made


def render(push: Push, remaining_s: int) -> bytes:
    """The call's JSON: the payload's message with its device and what is left of its time."""
    body, ttl_s = push.payload.body, push.payload.ttl_s
    if ttl_s is None or remaining_s < ttl_s - _TTL_SLACK_S:
        message = orjson.loads(body)
        message.setdefault("android", {})["ttl"] = f"{min(remaining_s, _MAX_TTL_S)}s"
        body = orjson.dumps(message)
    rest = body[1:] if body == b"{}" else b"," + body[1:]
    # The token was checked: it needs no escaping.
    end = b',"validate_only":true}' if push.is_dry_run else b"}"
    return b'{"message":{"token":"' + push.token.encode() + b'"' + rest + end


def read_error(body: bytes) -> tuple[str, str]:
    """FCM's code and words, from the details of a google.rpc.Status.

    The code is FCM's own if there is one, else the canonical one. An INVALID_ARGUMENT that names
    the token gets `.token`: the others are about the message, and must cost nobody his token.
    """
    error = answers.object_in(answers.read_object(body), "error")
    code, words = answers.text_in(error, "status"), answers.text_in(error, "message")
    details = _objects_in(error, "details")
    own = [own for own in (answers.text_in(each, "errorCode") for each in details) if own]
    places = {
        answers.text_in(violation, "field")
        for detail in details
        for violation in _objects_in(detail, "fieldViolations")
    }
    code = own[0] if own else code
    names_token = own and not places and "registration token" in words.lower()
    if code == "INVALID_ARGUMENT" and (names_token or places == {"message.token"}):
        code += answers.ABOUT_TOKEN
    return code, words


def _objects_in(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    values = parent.get(name)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
