"""APNs: HTTP/2, with a provider token (.p8) or a certificate (.p12), both environments.

Owns Apple's credentials, headers and reasons. Knows no retry. The one idea: Apple takes one key a
connection, so each app's credentials have connections of their own, while a key's provider token
serves all of them and is signed again when it is old or refused, never oftener than Apple allows.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

import jwt

from mqttpush.config import NetworkSettings
from mqttpush.errors import InvalidRequest
from mqttpush.models import PhonePayload
from mqttpush.networks import Ending, Keys, Network, Push, Sent, answers
from mqttpush.networks.certificates import ApnsCertificate, read_p12, read_pem
from mqttpush.networks.fields import (
    check_numbers,
    matching_field,
    only_fields,
    p256_private_key,
    text_field,
)
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.kept import Pause, PerApp
from mqttpush.networks.tokens import is_token

# Apple: no younger than 20 minutes when replaced, no older than 60.
_SIGN_AGAIN_S: Final = 3000.0
_LEAST_AGE_S: Final = 1200.0
# Connections of so many apps are kept; one idle connection is a socket and 60 KiB.
_MAX_APPS: Final = 256
# Signed tokens are kept for longer than connections: Apple minds a key that signs too often.
_MAX_SIGNERS: Final = 4096
_MAX_COLLAPSE_ID_BYTES: Final = 64
_COLLAPSE_ID: Final = re.compile(r"[!-~]{1,64}")
# apns-push-type -> what is added to the topic ("Sending notification requests to APNs").
_TOPIC_SUFFIXES: Final = {
    "alert": "",
    "background": "",
    "location": ".location-query",
    "voip": ".voip",
    "complication": ".complication",
    "controls": ".push-type.controls",
    "fileprovider": ".pushkit.fileprovider",
    "mdm": "",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
}
_KEY_FIELDS: Final = ("key", "keyId", "teamId", "topic")
_CERTIFICATE_FIELDS: Final = ("certificate", "password", "topic")
_PEM_CERTIFICATE_FIELDS: Final = ("certificate", "key", "topic")
_DEVELOPMENT: Final = "development"
# Nobody's device: asks whether the credentials are good, and reaches no device.
_NOBODY: Final = "00" * 32
_TEST_PAYLOAD: Final = PhonePayload(
    b'{"aps":{"content-available":1}}', ttl_s=0, is_urgent=False, push_type="background"
)
# What APNs says of nobody's device once it has found the credentials good.
_ABOUT_DEVICE: Final = ("BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken")


class ApnsNetwork:
    """APNs for all apps. clock: wall-clock seconds."""

    def __init__(self, *, settings: NetworkSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._providers = PerApp(self._make_providers, dropped=self._retire, limit=_MAX_APPS)
        self._retired: list[_Provider] = []
        self._signers: OrderedDict[tuple[str, ...], _Signer] = OrderedDict()
        self._is_closed = False

    def check(self, app_id: str, fields: Mapping[str, Any]) -> Keys:
        """fields: of a key (`key` as PEM, `keyId`, `teamId`, `topic`) or of a certificate.

        Of a certificate: `certificate` (the .p12 in base64) and `password`, or `certificate` and
        `key` as PEM, which is what is kept; and `topic` unless the certificate names one. They
        serve both environments; `development`, an object of the same fields, replaces them for
        installations under development, or stands alone. Not for the event loop.
        """
        kept: dict[str, Any] = {}
        summary: dict[str, Any] = {}
        development = fields.get(_DEVELOPMENT)
        general = {name: value for name, value in fields.items() if name != _DEVELOPMENT}
        if general or development is None:
            kept, summary = _check_one(general, "", self._clock())
        if development is not None:
            if not isinstance(development, Mapping):
                raise InvalidRequest("must be an object", field=_DEVELOPMENT)
            where = f"{_DEVELOPMENT}."
            kept[_DEVELOPMENT], shown = _check_one(development, where, self._clock())
            summary[_DEVELOPMENT] = shown
        return Keys(app_id, Network.APNS, kept, summary)

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt, and a second with a new provider token if Apple calls the old one expired.

        Apple has no dry run: of one, only what can be checked here is.
        """
        if not is_token(Network.APNS, push.token):
            return answers.ours(answers.TOKEN_INVALID)
        await self._close_retired()  # first: what it waits for may retire others
        provider = self._providers.of(keys)[push.is_development]
        if provider is None:
            return Sent(Ending.NOT_CONFIGURED, "not_configured")
        if push.is_dry_run:
            return answers.ours(answers.DRY_RUN)
        return await self._post(provider, push, delivery_headers(push, provider.topic))

    async def test(self, keys: Keys, token: str | None) -> Sent:
        """A push that shows nothing, to the device, or without one to nobody.

        Apple looks at the credentials first: what it says of nobody's device says they are good.
        """
        if token is not None and not is_token(Network.APNS, token):
            return answers.ours(answers.TOKEN_INVALID)
        taken, foreign = None, Sent(Ending.NOT_CONFIGURED, "not_configured")
        for is_development in (False, True):
            provider = self._providers.of(keys)[is_development]
            if provider is None:
                continue
            sent = await self._test_one(provider, token, is_development)
            if sent.ending is Ending.DELIVERED:
                taken = sent
            elif token is None or sent.ending is not Ending.TOKEN_MISMATCH:
                return sent
            else:
                foreign = sent  # no device is of both environments
        return taken or foreign

    async def close(self) -> None:
        """End the connections; what is sent after that is not."""
        self._is_closed = True
        for providers in self._providers.clear():
            self._retire(providers)
        for provider in self._retired:
            await provider.http.close()
        self._retired.clear()

    async def _test_one(self, provider: _Provider, token: str | None, is_development: bool) -> Sent:
        push = Push(token or _NOBODY, _TEST_PAYLOAD, is_development, expires_ms=0)
        sent = await self._post(provider, push, delivery_headers(push, provider.topic))
        if token is None and sent.code in _ABOUT_DEVICE:
            return Sent(Ending.DELIVERED, sent.code, detail="the credentials are good")
        if sent.ending is Ending.DELIVERED:
            found = "sandbox: `development` is true" if is_development else "production environment"
            return sent._replace(detail=f"a device of Apple's {found}")
        return sent

    async def _post(self, provider: _Provider, push: Push, headers: tuple[str, ...]) -> Sent:
        if provider.not_after_s is not None and provider.not_after_s < self._clock():
            return answers.ours(answers.CERTIFICATE_EXPIRED)
        if self._is_closed:
            return answers.way_failed(False, "APNs is closed here")
        settings = self._settings
        base = settings.apns_development_url if push.is_development else settings.apns_url
        url = f"{base}/3/device/{push.token}"
        signer = provider.signer
        is_second = False
        while True:
            authorization = signer.authorization(self._clock()) if signer else ()
            try:
                answer = await provider.http.post(
                    url, (*headers, *authorization), push.payload.body
                )
            except WayFailed as exc:
                return answers.way_failed(exc.was_sent, str(exc))
            if answer.status == 200:
                return answers.sent(Network.APNS, 200, "")
            reason, dead_since_ms = read_error(answer.body)
            renews = answers.meaning(Network.APNS, answer.status, reason).renews
            may_renew = renews and not is_second
            if not (may_renew and signer and signer.renew(authorization, self._clock())):
                return self._sent(answer, reason, dead_since_ms)
            is_second = True

    def _sent(self, answer: Answer, reason: str, dead_since_ms: int | None) -> Sent:
        now_s = self._clock()
        if dead_since_ms is not None:  # not in the future: a device may yet register again
            dead_since_ms = min(dead_since_ms, int(now_s * 1000))
        pause = answer.header("Retry-After")
        hint = answers.clock_hint(answer.header("Date"), now_s) if answer.status == 403 else ""
        return answers.sent(
            Network.APNS,
            answer.status,
            reason,
            detail=hint,
            dead_since_ms=dead_since_ms,
            retry_after_s=answers.retry_after_s(pause, now_s=now_s),
        )

    def _make_providers(self, keys: Keys) -> tuple[_Provider | None, _Provider | None]:
        fields = dict(keys.fields)
        own = fields.pop(_DEVELOPMENT, None)
        general = self._make_provider(fields) if fields else None
        return general, self._make_provider(own) if own else general

    def _make_provider(self, fields: Mapping[str, Any]) -> _Provider:
        topic = fields["topic"]
        if "certificate" not in fields:
            return _Provider(HttpClient(self._settings), topic, self._signer(fields), None)
        found = read_pem(fields["certificate"], fields["key"])
        http = HttpClient(self._settings, certificate=found.client)
        return _Provider(http, topic, None, found.not_after_s)

    def _signer(self, fields: Mapping[str, Any]) -> _Signer:
        """One a key, whichever apps it serves and whatever became of their connections."""
        name = tuple(fields[part] for part in ("teamId", "keyId", "key"))
        signer = self._signers[name] = self._signers.get(name) or _Signer(*name)
        self._signers.move_to_end(name)
        if len(self._signers) > _MAX_SIGNERS:
            self._signers.popitem(last=False)
        return signer

    def _retire(self, providers: tuple[_Provider | None, _Provider | None]) -> None:
        self._retired += {id(p): p for p in providers if p is not None}.values()

    async def _close_retired(self) -> None:
        """Close connections of credentials that were replaced, once nobody waits on them."""
        while self._retired and self._retired[0].http.is_idle:
            await self._retired.pop(0).http.close()


class _Provider(NamedTuple):
    """One set of credentials at work: a key's signer, or a certificate and when it ends."""

    http: HttpClient
    topic: str
    signer: _Signer | None
    not_after_s: float | None


class _Signer:
    """A .p8 key: a provider token in each request."""

    def __init__(self, team_id: str, key_id: str, pem: str) -> None:
        self._key = p256_private_key(pem, "key")
        self._key_id, self._team_id = key_id, team_id
        self._line: tuple[str, ...] = ()
        self._signed_at_s = 0.0
        self._renewed = Pause(_LEAST_AGE_S)

    def authorization(self, now_s: float) -> tuple[str, ...]:
        """The header lines that prove who sends."""
        if not self._line or not 0 <= now_s - self._signed_at_s < _SIGN_AGAIN_S:
            self._sign(now_s)
        return self._line

    def renew(self, refused: tuple[str, ...], now_s: float) -> bool:
        """Get other header lines than the refused ones; False if there are no others."""
        if self._line != refused:
            return True  # somebody else was refused too, and signed
        if self._renewed.lasts(now_s):
            return False
        self._renewed.begin(now_s)
        self._sign(now_s)
        return True

    def _sign(self, now_s: float) -> None:
        claims = {"iss": self._team_id, "iat": int(now_s)}
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        self._line = (f"authorization: bearer {token}",)
        self._signed_at_s = now_s


def _check_one(
    fields: Mapping[str, Any], where: str, now_s: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of one key or certificate, and what may be shown of them."""
    fields = {name: value for name, value in fields.items() if value is not None}
    if "certificate" in fields:
        return _check_certificate(fields, where, now_s)
    only_fields(fields, _KEY_FIELDS, where=where)
    pem = text_field(fields, "key", where=where)
    p256_private_key(pem, where + "key")
    shape = "[A-Z0-9]{10}"
    problem = "must be the 10 letters and digits that stand beside the key"
    key_id = matching_field(fields, "keyId", shape, problem, where=where)
    problem = "must be the 10 letters and digits of the membership page"
    team_id = matching_field(fields, "teamId", shape, problem, where=where)
    topic = _topic(fields, where)
    summary = {"form": "key", "keyID": key_id, "teamID": team_id, "topic": topic}
    return {"key": pem, "keyId": key_id, "teamId": team_id, "topic": topic}, summary


def _check_certificate(
    fields: Mapping[str, Any], where: str, now_s: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    found = _read_certificate(fields, where)
    if found.not_after_s < now_s:
        problem = f"expired on {found.expires_on}: make a new one at developer.apple.com"
        raise InvalidRequest(problem, field=f"{where}certificate")
    if found.topics and "topic" in fields and fields["topic"] not in found.topics:
        problem = f"is not of the certificate, which is for {', '.join(found.topics)}"
        raise InvalidRequest(problem[:300], field=f"{where}topic")
    topic = _topic(fields, where) if "topic" in fields or not found.topics else found.topics[0]
    # The password is needed no more: trying it may take long, and is not for the event loop.
    kept = {
        "certificate": found.client.certificate_pem.decode(),
        "key": found.client.private_key_pem.decode(),
        "topic": topic,
    }
    shown = {"form": "certificate", "topic": topic, "expires": found.expires_on}
    return kept, {**shown, "environments": list(found.environments)}


def _read_certificate(fields: Mapping[str, Any], where: str) -> ApnsCertificate:
    text = text_field(fields, "certificate", where=where)
    if text.startswith("-----"):
        only_fields(fields, _PEM_CERTIFICATE_FIELDS, where=where)
        key_text = text_field(fields, "key", where=where)
        found = read_pem(text, key_text, where=where)
        check_numbers(key_text, f"{where}key")
        return found
    only_fields(fields, _CERTIFICATE_FIELDS, where=where)
    password = fields.get("password", "")
    if not isinstance(password, str):
        raise InvalidRequest("must be a string", field=f"{where}password")
    return read_p12(text, password, where=where)


def _topic(fields: Mapping[str, Any], where: str) -> str:
    shape, problem = r"[A-Za-z0-9][A-Za-z0-9.-]{0,154}", "must be the bundle ID, com.example.app"
    return matching_field(fields, "topic", shape, problem, where=where)


def delivery_headers(push: Push, topic: str) -> tuple[str, ...]:
    """The header lines that say what the push is and how it may be held back."""
    payload = push.payload
    push_type = payload.push_type if payload.push_type in _TOPIC_SUFFIXES else "alert"
    is_urgent = payload.is_urgent and push_type != "background"  # Apple: background is 5
    expires_s = 0 if payload.ttl_s == 0 else -(-push.expires_ms // 1000)  # not earlier
    lines = [
        f"apns-topic: {topic}{_TOPIC_SUFFIXES[push_type]}",
        f"apns-push-type: {push_type}",
        f"apns-priority: {10 if is_urgent else 5}",
        f"apns-expiration: {expires_s}",
        "content-type: application/json",
    ]
    if payload.collapse_key:
        lines.append(f"apns-collapse-id: {collapse_id(payload.collapse_key)}")
    identifier = as_uuid(push.push_id)
    if identifier:
        lines.append(f"apns-id: {identifier}")
    return tuple(lines)


def collapse_id(key: str) -> str:
    """The key, or a hash of one that Apple would not take; equal keys stay equal."""
    if _COLLAPSE_ID.fullmatch(key):
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_MAX_COLLAPSE_ID_BYTES]


def as_uuid(text: str) -> str:
    """The canonical spelling, if it is a UUID; else empty."""
    try:
        return str(UUID(text)) if len(text) in (32, 36) else ""
    except ValueError:
        return ""


def read_error(body: bytes) -> tuple[str, int | None]:
    """Apple's reason, and since when the token is dead: {"reason":"…","timestamp":ms}."""
    parsed = answers.read_object(body)
    since_ms = parsed.get("timestamp")
    return answers.text_in(parsed, "reason"), since_ms if type(since_ms) is int else None
