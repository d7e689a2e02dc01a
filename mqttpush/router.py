"""Router: a committed event -> the live handles that must hear it.

Owns the live index: which connected clients hear which bucket or topic. Knows not how anything is
sent. The one idea: the index is a fold over what transactions emit, in commit order. A client's
attachment, a subscription and a write are applied one after the other as they were committed, so a
push goes out if and only if its source was heard at that moment, without a lock or a second look.
What then waits for a slow reader names its sources, and is withdrawn when he hears none any more.

Memory follows connections: a source nobody connected hears costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mqttpush.events import (
    AppRemoved,
    ClientAttached,
    CommandSent,
    Committed,
    InstallationChanged,
    InstallationRemoved,
    MessageSent,
    NetworkKeysChanged,
    ObjectEvent,
    OwnerRemoved,
    PhoneChange,
    PhonesEnded,
    PhonesQueued,
    PhonesRefused,
    RunsQueued,
    SourceRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from mqttpush.metrics import Metrics
from mqttpush.models import NEVER_MS, Audience, ObjectEventType, Owner


class CloseReason(Enum):
    """Why a connection has to end."""

    REVOKED = "revoked"  # installation, owner or app are gone or disabled
    EXPIRED = "expired"  # the credentials were for so long only


Handle = Any  # the MQTT server's connection, opaque here
FanOut = Callable[[Iterable[Handle], bytes, str | None, Sequence[int]], int]
Withdraw = Callable[[Iterable[Handle], int, Set[int]], None]


@dataclass(slots=True)
class _Client:
    """One connected installation."""

    owner: Owner
    installation_id: str
    is_development: bool


class _LiveOwner:
    """A user or thing with at least one live connection."""

    __slots__ = ("handles", "source_keys")

    def __init__(self, source_keys: tuple[int, ...]) -> None:
        self.handles: list[Handle] = []
        self.source_keys = set(source_keys)


def _one_after_other(
    first: Callable[[Any], None], then: Callable[[Any], None]
) -> Callable[[Any], None]:
    def both(change: Any) -> None:
        first(change)
        then(change)

    return both


def _source_keys_of(message: MessageSent) -> Sequence[int]:
    source = message.audience.source
    return (source.key,) if source is not None else ()


class Router:
    """Applies what was committed: events to clients, changes to the index.

    fan_out(handles, payload, conflation_key, source_keys): send one payload to many.
    withdraw(handles, source_key, heard_keys): do not send them what still waits for them by that
    source, if they hear it by none of these. close(handle, why): end a connection whose right to be
    there is gone. is_open(handle): is it still one?
    render_event(event, when_ms): the payload that all clients of a source get.
    on_routed(message, live, taken): so many connections were meant, so many took it.
    on_command_routed(command, taken): likewise. on_presence(owner, is_online): his first connection
    came, or his last one went. on_reached(message, owners): they took a message that is for phones
    only where nobody did. on_phones(change): phones have something to get, or keys changed.
    now_ms: the wall clock. also: what else to call for a kind of change, after the router itself.
    """

    def __init__(
        self,
        *,
        fan_out: FanOut,
        withdraw: Withdraw,
        close: Callable[[Handle, CloseReason], None],
        is_open: Callable[[Handle], bool],
        render_event: Callable[[ObjectEvent, int], bytes],
        on_routed: Callable[[MessageSent, int, int], None],
        on_command_routed: Callable[[CommandSent, int], None],
        on_presence: Callable[[Owner, bool], None],
        on_reached: Callable[[MessageSent, list[Owner]], None],
        on_phones: Callable[[PhoneChange], None],
        on_runs_queued: Callable[[RunsQueued], None],
        metrics: Metrics,
        now_ms: Callable[[], int],
        also: Mapping[type, Callable[[Any], None]] | None = None,
    ) -> None:
        self._fan_out = fan_out
        self._withdraw = withdraw
        self._close = close
        self._is_open = is_open
        self._render_event = render_event
        self._on_routed = on_routed
        self._on_command_routed = on_command_routed
        self._on_presence = on_presence
        self._on_reached = on_reached
        self._metrics = metrics
        self._now_ms = now_ms
        self._client_by_handle: dict[Handle, _Client] = {}
        self._live_by_owner: dict[Owner, _LiveOwner] = {}
        self._owners_by_source: dict[int, set[Owner]] = {}
        # Flat handles of a source, made at its first event after a change.
        self._handles_by_source: dict[int, tuple[Handle, ...]] = {}
        # Only of credentials that end.
        self._expires_ms_by_handle: dict[Handle, int] = {}
        self._apply_by_type: dict[type, Callable[[Any], None]] = {
            **self._own_kinds(),
            RunsQueued: on_runs_queued,
            PhonesQueued: on_phones,
            PhonesRefused: on_phones,
            PhonesEnded: on_phones,
            NetworkKeysChanged: on_phones,
        }
        for kind, apply in (also or {}).items():
            own = self._apply_by_type.get(kind)
            self._apply_by_type[kind] = _one_after_other(own, apply) if own else apply
        metrics.live_subscriptions.read = lambda: sum(map(len, self._owners_by_source.values()))

    def _own_kinds(self) -> dict[type, Callable[[Any], None]]:
        return {
            ObjectEvent: self._object_event,
            MessageSent: self._message_sent,
            CommandSent: self._command_sent,
            ClientAttached: self._client_attached,
            SubscriptionAdded: self._subscription_added,
            SubscriptionRemoved: self._subscription_removed,
            SourceRemoved: self._source_removed,
            InstallationChanged: self._installation_changed,
            InstallationRemoved: self._installation_removed,
            OwnerRemoved: self._owner_removed,
            AppRemoved: self._app_removed,
        }

    def apply(self, committed: Sequence[Committed]) -> None:
        """Take what one commit emitted. Called in commit order, in the event loop."""
        apply_by_type = self._apply_by_type
        for change in committed:
            apply_by_type[type(change)](change)

    def detach(self, handle: Handle) -> None:
        """The connection is gone; unknown handles are fine (it may have been detached already)."""
        client = self._client_by_handle.pop(handle, None)
        if client is None:
            return
        self._expires_ms_by_handle.pop(handle, None)
        live = self._live_by_owner[client.owner]
        live.handles.remove(handle)
        self._forget_handles_of(live.source_keys)
        if not live.handles:
            for source_key in live.source_keys:
                self._drop_owner_of_source(source_key, client.owner)
            del self._live_by_owner[client.owner]
            self._on_presence(client.owner, False)

    def close_expired(self) -> None:
        """End the connections whose credentials have expired; to be called every second or so."""
        now_ms = self._now_ms()
        expires_ms_by_handle = self._expires_ms_by_handle
        for handle in [each for each, end_ms in expires_ms_by_handle.items() if end_ms <= now_ms]:
            self._end(handle, CloseReason.EXPIRED)

    def owner_of(self, handle: Handle) -> Owner | None:
        """Whose connection it is, if it is in the index."""
        client = self._client_by_handle.get(handle)
        return client.owner if client else None

    def is_live(self, owner: Owner) -> bool:
        """Has this owner a live connection here?"""
        return owner in self._live_by_owner

    # --- events ---------------------------------------------------------------------------

    def _object_event(self, event: ObjectEvent) -> None:
        self._metrics.events_routed.add(event.type.value)
        handles: Iterable[Handle] = self._handles_of(event.source.key)
        if event.filter_keys:
            # Who hears the bucket and a filter of it, or two filters, hears the event once.
            handles = dict.fromkeys(handles)
            for filter_key in event.filter_keys:
                handles.update(dict.fromkeys(self._handles_of(filter_key)))
        if handles:
            payload = self._render_event(event, self._now_ms())
            source_keys = (event.source.key, *event.filter_keys)
            if event.type is ObjectEventType.BUCKET_DELETED:
                source_keys = ()  # the last word about a source, which ends with it
            self._fan_out(handles, payload, f"{event.source.key}/{event.object_id}", source_keys)

    def _message_sent(self, message: MessageSent) -> None:
        is_topic = message.audience.source is not None
        self._metrics.events_routed.add("topic message" if is_topic else "direct push")
        handles = self._handles_of_message(message)
        taken_count = 0
        if handles and message.is_once:
            taken_count = self._send_once(message, handles)
        elif handles:
            taken_count = self._fan_out(
                handles, message.payloads["mqtt"], None, _source_keys_of(message)
            )
        self._on_routed(message, len(handles), taken_count)

    def _send_once(self, message: MessageSent, handles: Sequence[Handle]) -> int:
        """The same, owner by owner, to know whom it reached."""
        handles_by_owner: dict[Owner, list[Handle]] = {}
        for handle in handles:
            owner = self._client_by_handle[handle].owner
            handles_by_owner.setdefault(owner, []).append(handle)
        taken_count = 0
        reached = []
        source_keys = _source_keys_of(message)
        for owner, own in handles_by_owner.items():
            count = self._fan_out(own, message.payloads["mqtt"], None, source_keys)
            taken_count += count
            if count:
                reached.append(owner)
        if reached:
            self._on_reached(message, reached)
        return taken_count

    def _command_sent(self, command: CommandSent) -> None:
        self._metrics.events_routed.add("command")
        live = self._live_by_owner.get(command.thing)
        taken_count = self._fan_out(live.handles, command.payload, None, ()) if live else 0
        self._on_command_routed(command, taken_count)

    def _handles_of_message(self, message: MessageSent) -> Sequence[Handle]:
        if "mqtt" not in message.payloads:
            return ()
        handles = self._handles_of_audience(message.audience)
        if message.to_development and message.to_production:
            return handles
        is_wanted = {True: message.to_development, False: message.to_production}
        return [
            handle for handle in handles if is_wanted[self._client_by_handle[handle].is_development]
        ]

    def _handles_of_audience(self, audience: Audience) -> Sequence[Handle]:
        if audience.source is not None:
            return self._handles_of(audience.source.key)
        live_by_owner = self._live_by_owner
        if len(audience.owners) == 1:
            live = live_by_owner.get(audience.owners[0])
            return live.handles if live else ()
        owners: Iterable[Owner] = dict.fromkeys(audience.owners)
        if audience.is_everybody:
            app_id = audience.app_id
            owners = (each for each in live_by_owner if each.app_id == app_id and each.is_user)
        live_owners = (live_by_owner[owner] for owner in owners if owner in live_by_owner)
        return [handle for live in live_owners for handle in live.handles]

    def _handles_of(self, source_key: int) -> tuple[Handle, ...]:
        handles = self._handles_by_source.get(source_key)
        if handles is None:
            owners = self._owners_by_source.get(source_key)
            if not owners:
                return ()
            live = self._live_by_owner
            handles = tuple(handle for owner in owners for handle in live[owner].handles)
            self._handles_by_source[source_key] = handles
        return handles

    # --- changes of the index -------------------------------------------------------------

    def _client_attached(self, change: ClientAttached) -> None:
        if not self._is_open(change.handle):
            return  # gone, or refused because the commit came too late
        owner = change.owner
        live = self._live_by_owner.get(owner)
        if live is None:
            live = self._live_by_owner[owner] = _LiveOwner(change.source_keys)
            for source_key in change.source_keys:
                self._owners_by_source.setdefault(source_key, set()).add(owner)
            self._on_presence(owner, True)
        live.handles.append(change.handle)
        self._client_by_handle[change.handle] = _Client(
            owner, change.installation_id, change.is_development
        )
        if change.expires_ms != NEVER_MS:
            self._expires_ms_by_handle[change.handle] = change.expires_ms
        self._forget_handles_of(live.source_keys)

    def _subscription_added(self, change: SubscriptionAdded) -> None:
        live = self._live_by_owner.get(change.owner)
        if live is not None:
            live.source_keys.add(change.source_key)
            self._owners_by_source.setdefault(change.source_key, set()).add(change.owner)
            self._handles_by_source.pop(change.source_key, None)

    def _subscription_removed(self, change: SubscriptionRemoved) -> None:
        live = self._live_by_owner.get(change.owner)
        if live is not None and change.source_key in live.source_keys:
            live.source_keys.discard(change.source_key)
            self._drop_owner_of_source(change.source_key, change.owner)
            self._withdraw(live.handles, change.source_key, live.source_keys)

    def _source_removed(self, change: SourceRemoved) -> None:
        self._handles_by_source.pop(change.source_key, None)
        for owner in self._owners_by_source.pop(change.source_key, ()):
            live = self._live_by_owner[owner]
            live.source_keys.discard(change.source_key)
            self._withdraw(live.handles, change.source_key, live.source_keys)

    def _installation_changed(self, change: InstallationChanged) -> None:
        for handle in self._handles_of_installation(change.owner, change.installation_id):
            self._client_by_handle[handle].is_development = change.is_development

    def _installation_removed(self, change: InstallationRemoved) -> None:
        for handle in self._handles_of_installation(change.owner, change.installation_id):
            self._end(handle)

    def _handles_of_installation(self, owner: Owner, installation_id: str) -> list[Handle]:
        live = self._live_by_owner.get(owner)
        return [
            handle
            for handle in (live.handles if live else ())
            if self._client_by_handle[handle].installation_id == installation_id
        ]

    def _owner_removed(self, change: OwnerRemoved) -> None:
        live = self._live_by_owner.get(change.owner)
        for handle in list(live.handles) if live else ():
            self._end(handle)

    def _app_removed(self, change: AppRemoved) -> None:
        for handle, client in list(self._client_by_handle.items()):
            if client.owner.app_id == change.app_id:
                self._end(handle)

    def _end(self, handle: Handle, reason: CloseReason = CloseReason.REVOKED) -> None:
        """First out of the index, so that nothing more is delivered; then off the line."""
        self.detach(handle)
        self._close(handle, reason)

    def _drop_owner_of_source(self, source_key: int, owner: Owner) -> None:
        owners = self._owners_by_source[source_key]
        owners.discard(owner)
        self._handles_by_source.pop(source_key, None)
        if not owners:
            del self._owners_by_source[source_key]

    def _forget_handles_of(self, source_keys: Iterable[int]) -> None:
        for source_key in source_keys:
            self._handles_by_source.pop(source_key, None)
