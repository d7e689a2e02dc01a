"""FCM: the HTTP v1 API, with the access token of a service account.

Owns the service account's file, its access token and where FCM's answers carry their code. Knows no
retry. The one idea: a token is fetched by the first who needs one while the others wait, is renewed
before it ends and once when FCM refuses it; a refusal is remembered for a while, so a key that was
withdrawn does not cost a request a push.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import orjson

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.networks import Keys, Network, Push, Sent, answers
from mqttpush.networks.fields import (
    check_numbers,
    matching_field,
    rsa_private_key,
    text_field,
)
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.kept import Pause, PerApp, SharedWork
from mqttpush.networks.tokens import is_token

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523
_ASSERTION_VALID_S: Final = 3600  # the longest Google takes
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
        """fields: the service account's JSON, as downloaded from the Firebase console.

        Not for the event loop.
        """
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
        pem = text_field(fields, "private_key")
        rsa_private_key(pem, "private_key")
        check_numbers(pem, "private_key")
        kept = {name: fields[name] for name in _FIELDS if isinstance(fields.get(name), str)}
        summary = {"projectID": project, "clientEmail": email}
        if "private_key_id" in kept:
            summary["privateKeyID"] = kept["private_key_id"][:64]
        return Keys(app_id, Network.FCM, kept, summary)

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt, and a second with a new access token if FCM refuses the one there was."""
        if not is_token(Network.FCM, push.token):
            return answers.ours(answers.TOKEN_INVALID)
        return await self._post(keys, render(push, push.left_s(self._clock())))

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
        return _Account(keys.fields, self._settings.fcm_token_url, self._http, self._clock)

    async def _post(self, keys: Keys, body: bytes) -> Sent:
        account = self._accounts.of(keys)
        url = f"{self._settings.fcm_url}/v1/projects/{keys.fields['project_id']}/messages:send"
        stale = ""
        while True:
            try:
                token = await account.access_token(stale)
            except WayFailed as exc:  # whatever became of that: the push was not sent
                return answers.way_failed(False, str(exc))
            except TokenRefused as exc:
                return self._sent(exc.answer, exc.code, exc.words)
            headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
            try:
                answer = await self._http.post(url, headers, body)
            except WayFailed as exc:
                return answers.way_failed(exc.was_sent, str(exc))
            if answer.status == 200:
                return answers.sent(Network.FCM, 200, "")
            code, words = read_error(answer.body)
            renews = answers.meaning(Network.FCM, answer.status, code).renews
            if stale or not renews or not account.may_renew(token):
                return self._sent(answer, code, words)
            stale = token

    def _sent(self, answer: Answer, code: str, words: str) -> Sent:
        now_s = self._clock()
        pause = answer.header("Retry-After")
        if answer.status in (400, 401):
            words = f"{answers.clock_hint(answer.header('Date'), now_s)} {words}".strip()
        return answers.sent(
            Network.FCM,
            answer.status,
            code,
            detail=words,
            retry_after_s=answers.retry_after_s(pause, now_s=now_s),
        )


class TokenRefused(Exception):
    """The token endpoint did not give an access token."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        parsed = answers.read_object(answer.body)
        code = answers.text_in(parsed, "error")
        self.code = f"oauth:{code}" if code else ""
        self.words = answers.text_in(parsed, "error_description")
        super().__init__(self.code or str(answer.status))


class _Account:
    """One service account and its access token."""

    def __init__(
        self, fields: Mapping[str, Any], url: str, http: HttpClient, clock: Callable[[], float]
    ) -> None:
        self._email = fields["client_email"]
        self._key = rsa_private_key(fields["private_key"], "private_key")
        self._key_id = fields.get("private_key_id")
        self._url = url
        self._http = http
        self._clock = clock
        self._shared: SharedWork[str] = SharedWork()
        self._token = ""
        self._renew_at_s = 0.0
        self._ends_at_s = 0.0
        self._renewed = Pause(_REFUSAL_KEPT_S)
        self._refused = Pause(_REFUSAL_KEPT_S)
        self._refusal: Answer | None = None

    async def access_token(self, stale: str) -> str:
        """A token other than `stale`, which was refused. Raises TokenRefused or WayFailed.

        If none is to be had, the old one serves until its end.
        """
        if self._token == stale:
            self._token = ""
        if self._token and self._clock() < self._renew_at_s:
            return self._token
        try:
            return await self._shared.run(self._fetch)
        except (WayFailed, TokenRefused):
            now_s = self._clock()
            if not self._token or now_s >= self._ends_at_s:
                raise
            self._renew_at_s = now_s + _REFUSAL_KEPT_S
            return self._token

    def may_renew(self, refused: str) -> bool:
        """Is there a token other than the refused one, or may one be asked for again so soon?"""
        if self._token != refused:
            return True
        now_s = self._clock()
        if self._renewed.lasts(now_s):
            return False
        self._renewed.begin(now_s)
        return True

    async def _fetch(self) -> str:
        now_s = self._clock()
        if self._refusal is not None and self._refused.lasts(now_s):
            raise TokenRefused(self._refusal)
        asked = {"grant_type": _GRANT_TYPE, "assertion": self._assertion(now_s)}
        headers = ("Content-Type: application/x-www-form-urlencoded",)
        answer = await self._http.post(self._url, headers, urlencode(asked).encode())
        if answer.status != 200:
            refusal = TokenRefused(answer)
            if answers.meaning(Network.FCM, answer.status, refusal.code).ending is not None:
                self._refusal = answer
                self._refused.begin(self._clock())
            raise refusal
        given = answers.read_object(answer.body)
        token, valid_s = given.get("access_token"), given.get("expires_in")
        is_token = isinstance(token, str) and _HEADER_VALUE.fullmatch(token)
        if not is_token or not isinstance(valid_s, int | float):
            raise WayFailed("the answer holds no access token", was_sent=False)
        self._refusal = None
        self._token = str(token)
        self._ends_at_s = self._clock() + valid_s
        self._renew_at_s = self._ends_at_s - _RENEW_BEFORE_S
        return self._token

    def _assertion(self, now_s: float) -> str:
        """What a service account asks for an access token with. Cost: 2 ms."""
        claims = {
            "iss": self._email,
            "scope": _SCOPE,
            "aud": self._url,
            "iat": int(now_s),
            "exp": int(now_s) + _ASSERTION_VALID_S,
        }
        headers = {"kid": self._key_id} if self._key_id else None
        return jwt.encode(claims, self._key, algorithm="RS256", headers=headers)


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
