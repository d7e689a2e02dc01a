"""FCM HTTP v1 and Google's OAuth2 token endpoint.

Owns service accounts, access tokens and the bodies of Google's errors. Knows no socket. Checked:
the service account's JWT (RS256, iss, scope, aud, iat, exp), the bearer and its project, the shape,
reserved keys and size of a message, the form of a device token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mqttpush.provider_simulator.fcm_shape import check_shape, size_bytes
from mqttpush.provider_simulator.keys import make_rsa_key, private_pem
from mqttpush.provider_simulator.provider import Provider, Refusal, Reply, Request, Verdict
from mqttpush.provider_simulator.tokens import decode_signed, is_number

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    }
)
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
SKEW_S = 60
JWT_LIFETIME_LIMIT_S = 3600
ACCESS_TOKEN_LIFETIME_S = 3599
DEVICE_PAYLOAD_LIMIT_BYTES = 4096
TOPIC_PAYLOAD_LIMIT_BYTES = 2048
JSON_TYPE = ("content-type", "application/json; charset=UTF-8")
_SEND = re.compile(r"/v1/projects/([^/]+)/messages:send")
_DEVICE_TOKEN = re.compile(r"[A-Za-z0-9_:.\-]{20,4096}")


class _Error(NamedTuple):
    """How an error is worded. details: `fcm` FcmError, `field` BadRequest, `info` ErrorInfo."""

    http: int
    status: str
    message: str
    details: tuple[str, ...] = ()
    reason: str = ""
    field: str = ""


_BAD = "Request contains an invalid argument."
_BAD_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105
_BAD_LOGIN = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or"
    " other valid authentication credential. See"
    " https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_DENIED = "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist)."
# Every error of a send, by the name faults use: FCM's own where it has one, else Google's status.
ERRORS = {
    "UNSPECIFIED_ERROR": _Error(500, "UNKNOWN", "Unknown error.", ("fcm",)),
    # The message is at fault: as the gateway says it, as FCM does, and without a reason.
    "INVALID_ARGUMENT": _Error(
        400, "INVALID_ARGUMENT", _BAD, ("field",), field="message.data[0].value"
    ),
    "INVALID_ARGUMENT.both": _Error(
        400, "INVALID_ARGUMENT", _BAD, ("fcm", "field"), field="message.data"
    ),
    "INVALID_ARGUMENT.bare": _Error(400, "INVALID_ARGUMENT", _BAD),
    # The device token is malformed: as it is seen, and as the documentation shows it.
    "INVALID_ARGUMENT.token": _Error(
        400, "INVALID_ARGUMENT", _BAD_TOKEN, ("fcm", "field"), field="message.token"
    ),
    "INVALID_ARGUMENT.token_documented": _Error(400, "INVALID_ARGUMENT", _BAD_TOKEN, ("fcm",)),
    "UNREGISTERED": _Error(404, "NOT_FOUND", "Requested entity was not found.", ("fcm",)),
    "NOT_FOUND": _Error(404, "NOT_FOUND", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": _Error(403, "PERMISSION_DENIED", "SenderId mismatch", ("fcm",)),
    "PERMISSION_DENIED": _Error(
        403, "PERMISSION_DENIED", _DENIED, ("info",), reason="IAM_PERMISSION_DENIED"
    ),
    "SERVICE_DISABLED": _Error(
        *(403, "PERMISSION_DENIED", "Firebase Cloud Messaging API has not been used", ("info",)),
        reason="SERVICE_DISABLED",
    ),
    "QUOTA_EXCEEDED": _Error(
        429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric.", ("fcm",)
    ),
    "RESOURCE_EXHAUSTED": _Error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted."),
    "UNAVAILABLE": _Error(503, "UNAVAILABLE", "The service is currently unavailable.", ("fcm",)),
    "INTERNAL": _Error(500, "INTERNAL", "Internal error encountered.", ("fcm",)),
    "DEADLINE_EXCEEDED": _Error(504, "DEADLINE_EXCEEDED", "Deadline expired."),
    "THIRD_PARTY_AUTH_ERROR": _Error(
        401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service", ("fcm",)
    ),
    "UNAUTHENTICATED": _Error(
        401, "UNAUTHENTICATED", _BAD_LOGIN, ("info",), reason="ACCESS_TOKEN_EXPIRED"
    ),
    "CREDENTIALS_MISSING": _Error(
        401, "UNAUTHENTICATED", _BAD_LOGIN, ("info",), reason="CREDENTIALS_MISSING"
    ),
    "METHOD_NOT_ALLOWED": _Error(405, "METHOD_NOT_ALLOWED", "Only POST is allowed."),
}
# Errors of the token endpoint: status, `error`, `error_description`.
OAUTH_ERRORS = {
    "invalid_grant": (400, "invalid_grant", "Invalid JWT Signature."),
    "account_not_found": (400, "invalid_grant", "Invalid grant: account not found"),
    "clock_skew": (
        *(400, "invalid_grant"),
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        " Check your iat and exp values in the JWT claim.",
    ),
    "wrong_audience": (
        *(400, "invalid_grant"),
        f"Invalid JWT: Failed audience check. The right audience is {GOOGLE_AUDIENCE}",
    ),
    "invalid_scope": (400, "invalid_scope", "Invalid OAuth scope or ID token audience provided."),
    "unsupported_grant_type": (400, "unsupported_grant_type", "Invalid grant_type"),
    "invalid_request": (400, "invalid_request", "Bad Request"),
    "unauthorized_client": (401, "unauthorized_client", "Client is unauthorized."),
    "internal_failure": (500, "internal_failure", "Backend Error"),
    "rate_limited": (429, "rate_limit_exceeded", "Too many requests"),
}


@dataclass
class _Account:
    """A service account: its project, and its public keys by key ID."""

    project: str
    key_by_id: dict[str, RSAPublicKey] = field(default_factory=dict)


class FcmProvider(Provider):
    """FCM. Any well-formed device token is known, of whatever project, unless `bind` says else."""

    network = "fcm"
    death_code = "UNREGISTERED"
    codes = ERRORS.keys() | OAUTH_ERRORS.keys()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_uri = ""
        self.access_token_lifetime_s = ACCESS_TOKEN_LIFETIME_S
        self.oauth_count = 0
        self._accounts: dict[str, _Account] = {}
        self._project_by_device: dict[str, str] = {}
        self._access_tokens: dict[str, tuple[str, float]] = {}
        self._message_count = 0

    # --- what tests and teams ask for ---

    def make_service_account(self, project: str = "demo-project") -> dict[str, str]:
        """A new account with a key of its own, as the file that Firebase's console gives out."""
        key = make_rsa_key()
        key_id = secrets.token_hex(20)
        email = f"firebase-adminsdk-{secrets.token_hex(3)}@{project}.iam.gserviceaccount.com"
        self._accounts[email] = _Account(project, {key_id: key.public_key()})
        return {
            "type": "service_account",
            "project_id": project,
            "private_key_id": key_id,
            "private_key": private_pem(key),
            "client_email": email,
            "client_id": str(10**20 + secrets.randbelow(10**20)),
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        }

    def delete_service_account(self, client_email: str) -> None:
        """Its key is not taken any more; access tokens it has got are."""
        self._accounts.pop(client_email, None)

    def make_tokens(self, count: int = 1, *, project: str = "") -> list[str]:
        """Device tokens of the usual form; with `project`, known to it alone."""
        tokens = [
            f"{secrets.token_urlsafe(16)}:APA91b{secrets.token_urlsafe(100)}" for _ in range(count)
        ]
        if project:
            self.bind(tokens, project)
        return tokens

    def bind(self, tokens: list[str], project: str) -> None:
        """These devices belong to that project: others get SENDER_ID_MISMATCH."""
        self._project_by_device.update((token, project) for token in tokens)

    def expire_access_tokens(self) -> None:
        """No access token given out so far is taken any more."""
        self._access_tokens.clear()

    # --- the network ---

    def judge(self, request: Request) -> Verdict:
        if found := _SEND.fullmatch(request.path):
            if request.method != "POST":
                raise Refusal("METHOD_NOT_ALLOWED")
            return self._judge_send(found[1], request)
        if request.path.endswith("/token") and request.method == "POST":
            return self._judge_oauth(request)
        raise Refusal("NOT_FOUND")

    def render(self, refusal: Refusal) -> Reply:
        if refusal.code in OAUTH_ERRORS:
            status, error, description = OAUTH_ERRORS[refusal.code]
            document: dict[str, Any] = {"error": error, "error_description": description}
            return Reply(status, orjson.dumps(document), (JSON_TYPE,))
        if "status" in refusal.facts and refusal.code.islower():  # Google's OAuth2 codes are
            return Reply(
                refusal.facts["status"], orjson.dumps({"error": refusal.code}), (JSON_TYPE,)
            )
        error_ = ERRORS.get(refusal.code) or _Error(
            refusal.facts["status"], refusal.code, "An error without a description.", ("fcm",)
        )
        document = {
            "code": error_.http,
            "message": refusal.message or error_.message,
            "status": error_.status,
        }
        if details := _details(refusal, error_):
            document["details"] = details
        headers = [JSON_TYPE]
        if error_.http == 401:
            headers.append(("www-authenticate", 'Bearer realm="https://accounts.google.com/"'))
        body = orjson.dumps({"error": document}, option=orjson.OPT_INDENT_2)
        return Reply(error_.http, body, tuple(headers))

    def _judge_send(self, project: str, request: Request) -> Verdict:
        self._require_bearer(project, request.headers)
        try:
            document = orjson.loads(request.body)
        except orjson.JSONDecodeError as exc:
            message = f"Invalid JSON payload received. {exc}"
            raise Refusal("INVALID_ARGUMENT.bare", message) from None
        check_shape(document)
        message = document.get("message")
        if not message:
            raise _no_recipient()
        token = self._judge_recipient(message, project)
        if document.get("validate_only", document.get("validateOnly")):
            name = f"projects/{project}/messages/fake_message_id"
            return Verdict(_named(name), token)
        self._message_count += 1
        name = f"projects/{project}/messages/0:{self._message_count:016d}%31bd1c9631bd1c96"
        return Verdict(_named(name), token, request.body)

    def _judge_recipient(self, message: Mapping[str, Any], project: str) -> str:
        recipients = [name for name in ("token", "topic", "condition") if message.get(name)]
        if len(recipients) != 1:
            raise _no_recipient()
        limit_bytes = TOPIC_PAYLOAD_LIMIT_BYTES
        token = str(message.get("token", ""))
        if token:
            limit_bytes = DEVICE_PAYLOAD_LIMIT_BYTES
            if not _DEVICE_TOKEN.fullmatch(token):
                raise Refusal("INVALID_ARGUMENT.token")
        if size_bytes(message) > limit_bytes:
            too_big = "Android message is too big"
            raise Refusal("INVALID_ARGUMENT.both", too_big, field="message")
        self._require_alive(token)
        if self._project_by_device.get(token, project) != project:
            raise Refusal("SENDER_ID_MISMATCH")
        return token

    def _require_bearer(self, project: str, headers: Mapping[str, str]) -> None:
        scheme, _, access_token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not access_token:
            raise Refusal("CREDENTIALS_MISSING")
        known = self._access_tokens.get(access_token)
        if known is None or known[1] <= self.clock():
            raise Refusal("UNAUTHENTICATED")
        if known[0] != project:
            raise Refusal("PERMISSION_DENIED")

    def _judge_oauth(self, request: Request) -> Verdict:
        form = parse_qs(request.body.decode("latin-1"))
        if form.get("grant_type") != [GRANT_TYPE]:
            raise Refusal("unsupported_grant_type")
        account = self._judge_assertion(form.get("assertion", [""])[0])
        access_token = f"ya29.c.{secrets.token_urlsafe(96)}"
        expires_at = self.clock() + self.access_token_lifetime_s
        self._access_tokens[access_token] = (account.project, expires_at)
        self.oauth_count += 1
        document = {
            "access_token": access_token,
            "expires_in": self.access_token_lifetime_s,
            "token_type": "Bearer",
        }
        return Verdict(Reply(200, orjson.dumps(document), (JSON_TYPE,)), place="oauth")

    def _judge_assertion(self, assertion: str) -> _Account:
        try:
            header = jwt.get_unverified_header(assertion)
            unverified = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise Refusal("invalid_request") from None
        account = self._accounts.get(str(unverified.get("iss")))
        if account is None:
            raise Refusal("account_not_found")
        key = account.key_by_id.get(str(header.get("kid")))
        if key is None and len(account.key_by_id) == 1 and "kid" not in header:
            [key] = account.key_by_id.values()
        if key is None or header.get("alg") != "RS256":
            raise Refusal("invalid_grant")
        claims = decode_signed(assertion, key, "RS256", "invalid_grant")
        self._judge_claims(claims)
        return account

    def _judge_claims(self, claims: Mapping[str, Any]) -> None:
        if claims.get("aud") not in (self.token_uri, GOOGLE_AUDIENCE):
            raise Refusal("wrong_audience")
        issued_at, expires_at, now = claims.get("iat"), claims.get("exp"), self.clock()
        if (
            not is_number(issued_at)
            or not is_number(expires_at)
            or issued_at > now + SKEW_S
            or expires_at < now - SKEW_S
            or expires_at - issued_at > JWT_LIFETIME_LIMIT_S
        ):
            raise Refusal("clock_skew")
        if not SCOPES & set(str(claims.get("scope", "")).split()):
            raise Refusal("invalid_scope")


def _named(name: str) -> Reply:
    return Reply(200, b'{\n  "name": "%s"\n}\n' % name.encode(), (JSON_TYPE,))


def _no_recipient() -> Refusal:
    message = "Recipient of the message is not set."
    return Refusal("INVALID_ARGUMENT.both", message, field="message")


def _details(refusal: Refusal, error: _Error) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if "fcm" in error.details:
        kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
        details.append({"@type": kind, "errorCode": refusal.code.partition(".")[0]})
    if "field" in error.details:
        name = refusal.facts.get("field") or error.field
        violation = {"field": name, "description": refusal.message or error.message}
        kind = "type.googleapis.com/google.rpc.BadRequest"
        details.append({"@type": kind, "fieldViolations": [violation]})
    if "info" in error.details:
        metadata = {
            "service": "fcm.googleapis.com",
            "method": "google.firebase.fcm.v1.FcmService.SendMessage",
        }
        details.append(
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.reason,
                "domain": "googleapis.com",
                "metadata": metadata,
            }
        )
    return details
