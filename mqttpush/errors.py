"""Errors: every exception the package raises on purpose, as one tree.

Knows nothing else. A class carries the facts as attributes; who turns them into a response, a
packet or an exit code is `rest/app.py`, `mqtt/connection.py` and `cli.py`, nowhere else.
"""

from __future__ import annotations


class MqttPushError(Exception):
    """Base of all. `retryable` says whether the same call may succeed later."""

    retryable: bool = False


class ConfigError(MqttPushError):
    """The operator must act.

    setting: dotted name such as `http.port`; source: where the value came from (a file, an
    environment variable, `default`); problem: what is wrong; example: a right value as it would
    stand in the file.
    """

    def __init__(self, setting: str, source: str, problem: str, example: str = "") -> None:
        self.setting = setting
        self.source = source
        self.problem = problem
        self.example = example
        hint = f"; for example: {example}" if example else ""
        super().__init__(f"{setting} ({source}): {problem}{hint}")


class ProtocolError(MqttPushError):
    """The peer broke MQTT. `reason_code` is the MQTT 5 code that goes on the wire.

    bound: the setting of the section `mqtt` that it went beyond; empty: none.
    """

    reason_code: int = 0x82

    def __init__(self, problem: str, reason_code: int | None = None, *, bound: str = "") -> None:
        if reason_code is not None:
            self.reason_code = reason_code
        self.problem = problem
        self.bound = bound
        super().__init__(problem)


class MalformedPacket(ProtocolError):
    """Bytes that are no MQTT control packet (MQTT 5 section 4.13, reason 0x81)."""

    reason_code = 0x81


class PacketTooLarge(ProtocolError):
    """A control packet over the announced Maximum Packet Size (reason 0x95)."""

    reason_code = 0x95


class LimitReached(MqttPushError):
    """A bound of ours was met; `limit` is the setting's dotted name."""

    retryable = True

    def __init__(self, limit: str, retry_after_s: float | None = None) -> None:
        self.limit = limit
        self.retry_after_s = retry_after_s
        super().__init__(f"limit {limit} reached")


class DomainError(MqttPushError):
    """The principal asked for something the domain refuses."""


class NotFound(DomainError):
    """No such noun. `noun` is lower case (`installation`), `facts` what was looked for."""

    def __init__(self, noun: str, identifier: str = "", **facts: object) -> None:
        self.noun = noun
        self.identifier = identifier
        self.facts = facts
        super().__init__(f"{noun} {identifier} not found".replace("  ", " "))


class AlreadyExists(DomainError):
    """The noun is there already, or its unique name is taken."""

    def __init__(self, noun: str, identifier: str = "", **facts: object) -> None:
        self.noun = noun
        self.identifier = identifier
        self.facts = facts
        super().__init__(f"{noun} {identifier} already exists".replace("  ", " "))


class NotAuthenticated(DomainError):
    """The credentials are missing, unknown or expired."""

    def __init__(self, problem: str = "the access token is not valid") -> None:
        super().__init__(problem)


class NotAuthorized(DomainError):
    """A known principal lacks the right; `principal_id` is empty for anonymous."""

    def __init__(self, verb: str, *, app_id: str = "", principal_id: str = "") -> None:
        self.verb = verb
        self.app_id = app_id
        self.principal_id = principal_id
        super().__init__(f"not allowed: {verb}")


class PrincipalDisabled(DomainError):
    """The user, thing or app exists but is switched off."""

    def __init__(self, noun: str, identifier: str) -> None:
        self.noun = noun
        self.identifier = identifier
        super().__init__(f"{noun} {identifier} is disabled")


class InvalidGrant(DomainError):
    """A token was asked for with credentials that do not fit (spec kii 1.2)."""

    def __init__(self, problem: str = "the credentials are not valid") -> None:
        super().__init__(problem)


class VersionConflict(DomainError):
    """A condition that does not hold (spec kii 4.3); `version` is what there is."""

    def __init__(self, noun: str, identifier: str, version: int | str, **facts: object) -> None:
        self.noun = noun
        self.identifier = identifier
        self.version = version
        self.facts = facts
        super().__init__(f"{noun} {identifier} is at version {version}")


class InvalidRequest(DomainError):
    """Input that is not acceptable.

    field: the offending field or `` for the whole; code: the narrower spec code when the dialect
    has one (`INVALID_JSON`, `INVALID_BUCKET`), else empty.
    """

    def __init__(self, problem: str, *, field: str = "", code: str = "") -> None:
        self.problem = problem
        self.field = field
        self.code = code
        super().__init__(f"{field}: {problem}" if field else problem)


class CodeFailed(MqttPushError):
    """Server code did not end well.

    name: of the failure on the second dialect's wire (`BLRuntimeError`). debug: for who wrote the
    code. status: other than the failure's own, or None.
    """

    def __init__(self, name: str, debug: str, *, status: int | None = None) -> None:
        self.name = name
        self.debug = debug
        self.status = status
        super().__init__(f"{name}: {debug}")


class StoreError(MqttPushError):
    """The store could not do its work."""


class StoreUnavailable(StoreError):
    """The store is away or too slow; a write that was under way may still have been committed."""

    retryable = True

    def __init__(self, store: str, problem: str) -> None:
        self.store = store
        super().__init__(f"store {store}: {problem}")


class SchemaMismatch(StoreError):
    """The store's schema is not one this version can open."""

    def __init__(self, store: str, found_version: int, known_version: int) -> None:
        self.store = store
        self.found_version = found_version
        self.known_version = known_version
        super().__init__(
            f"{store} has schema version {found_version}, this mqttpush knows up to"
            f" {known_version}: install a newer mqttpush, or point store.dsn at another file"
        )


class SealBroken(StoreError):
    """A sealed secret cannot be opened: its key is not this server's, or the row is damaged."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(
            f"{place} {problem}: bring back the key (security.encryption_key_file, or server.key of"
            " the data folder) and run `mqttpush network reseal`, or set it again"
        )


class DeliveryError(MqttPushError):
    """A push network did not take a push."""


class NetworkUnavailable(DeliveryError):
    """The network cannot be reached or answers 5xx."""

    retryable = True


class ClientError(MqttPushError):
    """A running server, spoken to from outside (command line, simulator), did not do as asked."""


class ServerUnreachable(ClientError):
    """Nobody answers at `url`, in time or at all."""

    retryable = True

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem
        super().__init__(f"no server answers at {url}: {problem}")


class RequestRefused(ClientError):
    """The server answered with an error; `error_code` is the dialect's, or empty."""

    def __init__(self, request: str, status: int, error_code: str, problem: str) -> None:
        self.request = request
        self.status = status
        self.error_code = error_code
        self.problem = problem
        self.retryable = status in (429, 503)
        detail = ": ".join(part for part in (error_code, problem) if part)
        super().__init__(f"{request} was refused with {status} {detail}".rstrip())


def first_error(error: BaseException) -> MqttPushError | None:
    """The first of ours in an exception or in what a task group made of several."""
    if isinstance(error, BaseExceptionGroup):
        found = (first_error(each) for each in error.exceptions)
        return next((each for each in found if each is not None), None)
    return error if isinstance(error, MqttPushError) else None
