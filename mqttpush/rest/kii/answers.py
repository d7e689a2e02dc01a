"""Answers: the fields of every successful answer, for documents.

Owns no behaviour: handlers render dictionaries, documents show these shapes, and a test compares
the two on the real server. A field that is not always there is `NotRequired`; none is ever null.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from mqttpush.commands import CommandState
from mqttpush.models import DeviceType, ObjectEventType, ScopeType

_CLOSED: Final = with_config(ConfigDict(extra="forbid"))
_OPEN: Final = with_config(ConfigDict(extra="allow"))  # the app's own fields stand beside


@_CLOSED
class Token(TypedDict):
    """An access token; `id` is its user's or thing's."""

    access_token: str
    expires_in: int
    token_type: Literal["Bearer"]
    id: NotRequired[str]


@_OPEN
class User(TypedDict):
    """A user, with the app's own fields."""

    userID: str
    internalUserID: NotRequired[int]
    loginName: NotRequired[str]
    displayName: NotRequired[Any]
    emailAddress: NotRequired[str]
    emailAddressVerified: NotRequired[bool]
    phoneNumber: NotRequired[str]
    phoneNumberVerified: NotRequired[bool]
    modifiedAt: NotRequired[int]
    _hasPassword: NotRequired[bool]
    _disabled: bool
    _accessToken: NotRequired[str]


@_OPEN
class Thing(TypedDict):
    """A thing, with its other fields as registered."""

    _thingID: str
    _vendorThingID: str
    _created: int
    _disabled: bool
    _online: bool
    _onlineStatusModifiedAt: int
    _accessToken: NotRequired[str]


@_CLOSED
class VendorThingId(TypedDict):
    """The ID that a thing's vendor gave it."""

    _vendorThingID: str


@_CLOSED
class Disabled(TypedDict):
    """Whether a user or thing is switched off."""

    disabled: bool


@_CLOSED
class Subject(TypedDict):
    """A user, thing or group: one of the three."""

    userID: NotRequired[str]
    thingID: NotRequired[str]
    groupID: NotRequired[str]


@_CLOSED
class Owners(TypedDict):
    """Owners of a thing: IDs."""

    users: list[str]
    groups: list[str]


@_CLOSED
class InstallationCreated(TypedDict):
    """The installation, new or found again."""

    installationID: str
    installationRegistrationID: str


@_CLOSED
class Installation(TypedDict):
    """A device of a user or of a thing; `problem`: why its network refuses the token."""

    installationID: str
    installationRegistrationID: str
    deviceType: DeviceType
    development: bool
    userID: NotRequired[str]
    thingID: NotRequired[str]
    problem: NotRequired[str]


@_CLOSED
class Installations(TypedDict):
    """Devices."""

    installations: list[Installation]


@_CLOSED
class MqttEndpoint(TypedDict):
    """Where and how one installation connects; the last is how long that holds, seconds."""

    installationID: str
    username: str
    password: str
    mqttTopic: str
    host: str
    portTCP: int
    portSSL: int
    portWS: int
    portWSS: int
    ttl_s: Annotated[int, Field(alias="X-MQTT-TTL")]


@_CLOSED
class Bucket(TypedDict):
    """A bucket and how many objects are in it."""

    bucketType: Literal["rw"]
    size: int


@_CLOSED
class ObjectCreated(TypedDict):
    """A new object under an ID of the server's."""

    objectID: str
    createdAt: int
    dataType: str


@_CLOSED
class ObjectWritten(TypedDict):
    """When the object was made and last changed, milliseconds since 1970."""

    createdAt: int
    modifiedAt: int


@_OPEN
class StoredObject(TypedDict):
    """An object: the app's own fields and the server's."""

    _id: str
    _owner: str
    _created: int
    _modified: int
    _version: str
    _dataType: NotRequired[str]


@_CLOSED
class BodyWritten(TypedDict):
    """When the body was written, milliseconds since 1970."""

    modifiedAt: int


@_CLOSED
class UploadStarted(TypedDict):
    """The upload to send parts to."""

    uploadID: str


@_CLOSED
class UploadState(TypedDict):
    """How much has arrived; the total is known with the first part."""

    uploadID: str
    contentType: str
    receivedBytes: int
    totalBytes: NotRequired[int]
    expiresAt: int


@_CLOSED
class QueryResult(TypedDict):
    """A page of objects, with a key if more follow; or a count alone."""

    queryDescription: NotRequired[str]
    aggregations: NotRequired[dict[str, int]]
    results: list[StoredObject]
    nextPaginationKey: NotRequired[str]


@_CLOSED
class TopicName(TypedDict):
    """A topic."""

    topicID: str


@_CLOSED
class Topics(TypedDict):
    """A page of topics; the key is there if more follow."""

    topics: list[TopicName]
    paginationKey: NotRequired[str]


@_CLOSED
class Subscribers(TypedDict):
    """A page of subscribers; the key is there if more follow."""

    subscribers: list[Subject]
    paginationKey: NotRequired[str]


@_CLOSED
class ObjectScope(TypedDict):
    """Where a bucket or topic is."""

    appID: str
    type: ScopeType
    userID: NotRequired[str]
    groupID: NotRequired[str]
    thingID: NotRequired[str]


@_CLOSED
class Subscription(TypedDict):
    """A topic, or a filter of a bucket."""

    objectScope: ObjectScope
    topicID: NotRequired[str]
    bucketID: NotRequired[str]
    filterID: NotRequired[str]


@_CLOSED
class Subscriptions(TypedDict):
    """What a user or thing is subscribed to."""

    subscriptions: list[Subscription]


@_CLOSED
class NamedFilter(TypedDict):
    """What a filter lets through; no event types means all."""

    filterID: str
    eventTypes: list[ObjectEventType]
    clause: dict[str, Any]


@_CLOSED
class NamedFilters(TypedDict):
    """Named filters of a bucket."""

    filters: list[NamedFilter]


@_CLOSED
class FilterWritten(TypedDict):
    """The filter, new or replaced."""

    filterID: str


@_CLOSED
class MessageAccepted(TypedDict):
    """The message is stored and will be delivered."""

    pushMessageID: str


@_CLOSED
class NetworkFate(TypedDict):
    """Devices the message was for, and what became of it there; `dropped` counts by reason.

    `waiting` devices are still to get it; `isComplete` is false while more are being looked up.
    """

    recipients: int
    delivered: int
    dropped: dict[str, int]
    waiting: NotRequired[int]
    isComplete: NotRequired[bool]


@_CLOSED
class MessageFate(TypedDict):
    """What became of a message, as far as it is known."""

    pushMessageID: str
    sentTo: str
    sentAt: int
    networks: dict[str, NetworkFate]


@_CLOSED
class DeviceTrace(TypedDict):
    """What became of a push on one device; without an `ending` it waits until `nextTryAt`."""

    installationID: str
    network: str
    sentTo: str
    pushMessageID: NotRequired[str]
    userID: NotRequired[str]
    thingID: NotRequired[str]
    attempts: int
    pushID: str
    ending: NotRequired[str]
    endedAt: NotRequired[int]
    nextTryAt: NotRequired[int]
    code: NotRequired[str]


@_CLOSED
class DeviceTraces(TypedDict):
    """Devices and what became of pushes there. `paginationKey`: there are more."""

    deliveries: list[DeviceTrace]
    paginationKey: NotRequired[str]


@_CLOSED
class GroupCreated(TypedDict):
    """A new group, and the named members who do not exist."""

    groupID: str
    notFoundUsers: list[str]


@_CLOSED
class Group(TypedDict):
    """A group."""

    groupID: str
    name: str
    owner: str
    createdAt: int
    modifiedAt: int


@_CLOSED
class Groups(TypedDict):
    """Groups of a user."""

    groups: list[Group]


@_CLOSED
class Members(TypedDict):
    """Members of a group, its owner among them."""

    members: list[Subject]


# Verb -> who may: `{"SUBSCRIBE_TO_TOPIC": [{"userID": "ANY_AUTHENTICATED_USER"}]}`.
AccessRules: Final = dict[str, list[Subject]]


@_OPEN
class AnyObject(TypedDict):
    """A JSON object of the app's own."""


@_CLOSED
class OnboardedEndpoint(TypedDict):
    """Where and how the thing connects; ttl in seconds."""

    installationID: str
    username: str
    password: str
    mqttTopic: str
    host: str
    portTCP: int
    portSSL: int
    portWS: int
    portWSS: int
    ttl: int


@_CLOSED
class Onboarded(TypedDict):
    """What a thing needs from its onboarding on."""

    accessToken: str
    thingID: str
    mqttEndpoint: OnboardedEndpoint


@_CLOSED
class CommandCreated(TypedDict):
    """The new command."""

    commandID: str


@_OPEN
class Command(TypedDict):
    """A command as its thing got it, and what came of it."""

    commandID: str
    commandState: CommandState
    target: str
    issuer: str
    actions: list[dict[str, Any]]
    createdAt: int
    modifiedAt: int
    actionResults: NotRequired[list[dict[str, Any]]]


@_CLOSED
class Commands(TypedDict):
    """Some commands, the newest first; the key is there if more may follow."""

    commands: list[Command]
    nextPaginationKey: NotRequired[str]


@_CLOSED
class CodeDeployed(TypedDict):
    """A new version of server code."""

    versionID: str


@_CLOSED
class CodeVersion(TypedDict):
    """A version of server code; times in milliseconds since the epoch."""

    versionID: str
    createdAt: int
    modifiedAt: int
    current: bool


@_CLOSED
class CodeVersions(TypedDict):
    """All versions, newest first."""

    versions: list[CodeVersion]


@_CLOSED
class CodeReturned(TypedDict):
    """What an endpoint returned: by the name libraries read, and by that of spec kii 11."""

    returnedValue: Any
    returnValue: Any


@_CLOSED
class NetworkCredentials(TypedDict):
    """What may be shown of an app's credentials; `problem`: why they are of no use."""

    network: Literal["fcm", "apns", "jpush", "webpush"]
    summary: dict[str, Any]
    changedAt: int
    problem: NotRequired[str]


@_CLOSED
class NetworksOfApp(TypedDict):
    """The push networks the app has credentials for."""

    networks: list[NetworkCredentials]


@_CLOSED
class PublicKey(TypedDict):
    """Of `webpush`: what a page passes to `pushManager.subscribe` as `applicationServerKey`."""

    publicKey: str


@_CLOSED
class NetworkVerdict(TypedDict):
    """What the network says; without `ending`, a later try may say something else."""

    accepted: bool
    code: str
    ending: NotRequired[str]
    detail: NotRequired[str]
