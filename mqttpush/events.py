"""Events: what a transaction says about itself once it is committed, in commit order.

Owns what the store hands to the router: things that happened, and changes of the live index. Knows
nobody who listens. The order is the meaning: a subscription, a lost right and a write are applied
one after the other as they were committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mqttpush.models import Audience, ObjectEventType, Owner, Source

# --- things that happened ---------------------------------------------------------------------


class ObjectEvent(NamedTuple):
    """One committed change in a bucket.

    sender: a subject. filter_keys: keys of the named filters that let it through.
    """

    type: ObjectEventType
    source: Source
    object_id: str
    modified_ms: int
    sender: str
    filter_keys: tuple[int, ...] = ()


class MessageSent(NamedTuple):
    """One accepted message. Phones get it as jobs of the store (see operations.phones).

    payloads: `mqtt`, if it goes there; rendered and size-checked when the message was accepted.
    unconfigured: networks it was meant for too, and the app has no key of. is_once: phones wait to
    hear whom a live connection reached.
    """

    message_id: str
    audience: Audience
    payloads: Mapping[str, bytes]
    to_development: bool = True
    to_production: bool = True
    unconfigured: tuple[str, ...] = ()
    is_once: bool = False


class CommandSent(NamedTuple):
    """A command is to be handed to its thing now."""

    command_id: str
    thing: Owner
    payload: bytes


class PhonesQueued(NamedTuple):
    """There is something to send to phones of the app on this network, from `ready_ms` on."""

    app_id: str
    network: str
    ready_ms: int


class PhonesRefused(NamedTuple):
    """An event does not go to phones on this network: too much of the app waits already."""

    app_id: str
    network: str


class PhonesEnded(NamedTuple):
    """So many pushes ended in that way without an attempt of the senders."""

    network: str
    ending: str
    devices: int


class NetworkKeysChanged(NamedTuple):
    """The app's credentials for the network are others from here on, or gone."""

    app_id: str
    network: str


class RunsQueued(NamedTuple):
    """There is server code to run."""


# --- changes of the live index ----------------------------------------------------------------


class EntityPublished(NamedTuple):
    """An entity was created or updated where somebody follows live.

    readers: users and things who may read it, beside the administrator; None for all. entity: JSON.
    """

    source: Source
    readers: frozenset[str] | None
    entity: bytes


class LiveAttached(NamedTuple):
    """A connection of a client of the Live Service is there, and hears what it follows.

    is_mqtt: an MQTT client's handle, else a stream. expires_ms: when its session ends, or NEVER_MS.
    is_spare: a stream only for a client without any connection; else it is closed.
    """

    handle: Any
    owner: Owner
    installation_id: str
    expires_ms: int
    source_keys: tuple[int, ...]
    is_mqtt: bool
    is_spare: bool = False


class LiveFollowed(NamedTuple):
    """The client follows the collection from here on."""

    installation_id: str
    source_key: int


class LiveLeft(NamedTuple):
    """The client no longer follows it."""

    installation_id: str
    source_key: int


class ClientAttached(NamedTuple):
    """A client has authenticated; from here on it hears its owner's sources."""

    handle: Any  # opaque: the MQTT server's
    owner: Owner
    installation_id: str
    is_development: bool
    expires_ms: int  # when its credentials end, or NEVER_MS
    source_keys: tuple[int, ...]


class SubscriptionAdded(NamedTuple):
    """`owner` hears `source_key` from here on."""

    source_key: int
    owner: Owner


class SubscriptionRemoved(NamedTuple):
    """`owner` no longer hears `source_key`: unsubscribed, or lost the right."""

    source_key: int
    owner: Owner


class SourceRemoved(NamedTuple):
    """The bucket or topic is gone, its subscriptions with it."""

    source_key: int


class InstallationChanged(NamedTuple):
    """The installation of `owner` is for development from here on, or no longer."""

    installation_id: str
    owner: Owner
    is_development: bool


class InstallationRemoved(NamedTuple):
    """The installation is gone or its credentials were revoked: its connection must end."""

    owner: Owner
    installation_id: str


class OwnerRemoved(NamedTuple):
    """The user or thing is gone or disabled: all its connections must end."""

    owner: Owner


class AppRemoved(NamedTuple):
    """The app is gone or disabled: all its connections must end."""

    app_id: str


PhoneChange = PhonesQueued | PhonesRefused | PhonesEnded | NetworkKeysChanged
"""What the senders to phones must hear."""

Committed = (
    ObjectEvent
    | MessageSent
    | CommandSent
    | RunsQueued
    | PhonesQueued
    | PhonesRefused
    | PhonesEnded
    | NetworkKeysChanged
    | EntityPublished
    | LiveAttached
    | LiveFollowed
    | LiveLeft
    | ClientAttached
    | SubscriptionAdded
    | SubscriptionRemoved
    | SourceRemoved
    | InstallationChanged
    | InstallationRemoved
    | OwnerRemoved
    | AppRemoved
)
"""What a transaction says about itself once it is committed, in commit order."""
