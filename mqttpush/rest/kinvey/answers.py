"""Answers: the fields of every successful answer, for documents.

Owns no behaviour: handlers render dictionaries, documents show these shapes, and a test compares
the two on the real server. A field that is not always there is `NotRequired`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

_CLOSED: Final = with_config(ConfigDict(extra="forbid"))
_OPEN: Final = with_config(ConfigDict(extra="allow"))  # the app's own fields stand beside


@_CLOSED
class KinveyHandshake(TypedDict):
    """Who answers."""

    version: str
    kinvey: str
    appName: str
    environmentName: str


@_CLOSED
class KinveyAcl(TypedDict):
    """Whose it is."""

    creator: str


@_CLOSED
class KinveyStatus(TypedDict):
    """Stands at a user who is suspended."""

    val: Literal["disabled"]
    lastChange: str


@_CLOSED
class KinveyMetadata(TypedDict):
    """Times of making and last change; a session's token and beginning for who uses it."""

    ect: str
    lmt: str
    llt: NotRequired[str]
    authtoken: NotRequired[str]
    status: NotRequired[KinveyStatus]


@_CLOSED
class PushToken(TypedDict):
    """A device of a user."""

    token: str
    platform: Literal["ios", "android"]
    arn: None
    framework: NotRequired[str]
    service: NotRequired[str]


@_CLOSED
class Messaging(TypedDict):
    """Where pushes to a user go; only he and the app's administrator see it."""

    pushTokens: list[PushToken]


@_OPEN
class KinveyUser(TypedDict, total=False):
    """A user. password: only at sign-up, if it was made up there."""

    _id: str
    username: str
    email: Any
    password: str
    _acl: KinveyAcl
    _kmd: KinveyMetadata
    _messaging: Messaging


@_CLOSED
class KinveyCount(TypedDict):
    """How many there are, or were deleted."""

    count: int


@_CLOSED
class EntityGroups(TypedDict, total=False):
    """Groups that may read and write it beside others."""

    r: list[str]
    w: list[str]


@_CLOSED
class EntityAcl(TypedDict):
    """Whose it is; who may read and write it beside those the collection lets."""

    creator: str
    gr: NotRequired[bool]
    gw: NotRequired[bool]
    r: NotRequired[list[str]]
    w: NotRequired[list[str]]
    groups: NotRequired[EntityGroups]


@_OPEN
class KinveyEntity(TypedDict, total=False):
    """An entity: the app's own fields and these."""

    _id: str
    _acl: EntityAcl
    _kmd: KinveyMetadata


@_CLOSED
class EntityError(TypedDict):
    """Why an entity of several was not stored. index: which one."""

    index: int
    error: str
    description: str
    debug: str


@_CLOSED
class KinveyEntities(TypedDict):
    """What became of several; null for one that was not stored."""

    entities: list[KinveyEntity | None]
    errors: list[EntityError]


@_CLOSED
class LiveDevice(TypedDict):
    """Names a client of the Live Service: a text of its own that stays the same."""

    deviceId: str


@_CLOSED
class LivePorts(TypedDict):
    """Ports of the MQTT server; 0 for a listener that is off."""

    tcp: int
    tls: int
    ws: int
    wss: int


@_CLOSED
class LiveEndpoint(TypedDict):
    """How this client listens by MQTT: connect with the topic as client ID, subscribe to it."""

    host: str
    ports: LivePorts
    topic: str
    username: str
    password: str


@_CLOSED
class LiveRegistration(TypedDict):
    """How to listen. All but `mqtt` is the configuration of shipped clients' transport."""

    subscribeKey: str
    publishKey: str
    userChannelGroup: str
    origin: str
    ssl: bool
    mqtt: LiveEndpoint


@_CLOSED
class Nothing(TypedDict):
    """`{}`: it is done."""


@_OPEN
class PubNubMessages(TypedDict):
    """`m`: messages, each with its channel `c` and its entity `d`; `t.t`: what to ask for next."""

    t: dict[str, Any]
    m: list[dict[str, Any]]


@_CLOSED
class PubNubDone(TypedDict):
    """It is done."""

    status: int
    message: str
    service: str


@_CLOSED
class UsernameExists(TypedDict):
    """Is it taken?"""

    usernameExists: bool


@_CLOSED
class KinveySent(TypedDict):
    """How far a message goes. unknown: recipients that are nobody."""

    messageId: str
    users: int
    devices: int
    queued: int
    unknown: NotRequired[int]
