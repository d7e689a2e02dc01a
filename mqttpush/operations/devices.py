"""Verbs of phones as Kinvey's clients register them: a device token is an installation.

Owns whose a token is (spec kinvey 4.4): who registered it last, or all who did, as the app chose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest, NotFound
from mqttpush.events import InstallationRemoved
from mqttpush.kinvey import KinveySettings
from mqttpush.models import Credentials, DeviceType, Installation, Owner, Principal, User
from mqttpush.operations.context import Context
from mqttpush.operations.uninstalling import tell_of_move, tell_of_new, uninstall
from mqttpush.store import Transaction

PLATFORMS: Final = {"android": DeviceType.ANDROID, "ios": DeviceType.IOS}
PLATFORM_BY_TYPE: Final = {device_type: name for name, device_type in PLATFORMS.items()}
FIREBASE: Final = "firebase"  # FCM's token, on an iPhone too
_FRAMEWORKS: Final = frozenset({"titanium", "phonegap", "nativescript", "react-native"})


@dataclass(frozen=True, slots=True)
class DeviceDraft:
    """A device as its app registers it. platform: of `PLATFORMS`; the rest is kept as given."""

    platform: str
    token: str
    framework: str = ""
    service: str = ""

    @property
    def device_type(self) -> DeviceType:
        return PLATFORMS[self.platform]

    @property
    def network(self) -> str:
        is_apns = self.platform == "ios" and self.service != FIREBASE
        return "apns" if is_apns else "fcm"


class Devices:
    """Registering and forgetting device tokens of users."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def register(
        self, credentials: Credentials, draft: DeviceDraft, user_id: str | None
    ) -> None:
        """Repeating it is fine. user_id: only the administrator names one, and must.

        Raises InvalidRequest, NotAuthorized, NotFound("user").
        """

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            user = _user_meant(tx, principal, user_id)
            settings = tx.kinvey.settings(user.app_id)
            if settings.is_push_strict and draft.network not in tx.apps.networks(user.app_id):
                raise InvalidRequest(
                    f"the app has no credentials for {draft.network}", code="MissingConfiguration"
                )
            _put(self._context, tx, user, draft, settings)
            _forget_oldest(self._context, tx, user)
            tx.users.update(replace(user, modified_ms=self._context.now_ms()))

        await self._context.store.write(unit)

    async def unregister(
        self, credentials: Credentials, draft: DeviceDraft, user_id: str | None
    ) -> None:
        """A token that is not registered is fine, too."""

        def unit(tx: Transaction) -> None:
            principal = self._context.authenticate(tx, credentials)
            user = _user_meant(tx, principal, user_id)
            for installation in devices_of(tx, Owner(user.app_id, user.subject)):
                if _is_of(installation, draft):
                    uninstall(self._context, tx, installation)
                    tx.users.update(replace(user, modified_ms=self._context.now_ms()))

        await self._context.store.write(unit)


def devices_of(tx: Transaction, owner: Owner) -> list[Installation]:
    """The owner's phones, whichever dialect registered them, oldest first."""
    return [
        each for each in tx.installations.list_of(owner) if each.device_type in PLATFORM_BY_TYPE
    ]


def _put(
    context: Context, tx: Transaction, user: User, draft: DeviceDraft, settings: KinveySettings
) -> None:
    """The user has this device from here on."""
    owner = Owner(user.app_id, user.subject)
    known = tx.installations.list_by_registration(user.app_id, draft.device_type, draft.token)
    kept = next((each for each in known if each.owner == owner), None)
    if not settings.shares_device_tokens:
        for other in known:
            if kept is None:
                kept = other  # it moves
            elif other.installation_id != kept.installation_id:
                uninstall(context, tx, other)
    now_ms = context.now_ms()
    framework = draft.framework.lower()
    installation = Installation(
        installation_id=kept.installation_id if kept else context.secrets.installation_id(),
        owner=owner,
        device_type=draft.device_type,
        registration_id=draft.token,
        is_development=settings.are_devices_for_development,
        created_ms=kept.created_ms if kept else now_ms,
        updated_ms=now_ms,
        platform=draft.platform,
        framework=framework if framework in _FRAMEWORKS else draft.framework,
        service=draft.service,
    )
    if kept is None:
        tx.installations.insert(installation)
        tell_of_new(context, tx, installation)
    else:
        if kept.owner != owner:
            tx.emit(InstallationRemoved(kept.owner, kept.installation_id))
        tx.installations.update(installation)
        tell_of_move(context, tx, kept, installation)


def replace_devices(
    context: Context,
    tx: Transaction,
    user: User,
    drafts: Iterable[DeviceDraft],
    seen_ms: int | None,
) -> None:
    """These are the user's devices from here on, the last ones of too many.

    seen_ms: a device he registered after that stays; the writer did not know of it.
    """
    kept = list(drafts)[-context.limits.max_device_tokens_per_user :]
    settings = tx.kinvey.settings(user.app_id)
    for installation in devices_of(tx, Owner(user.app_id, user.subject)):
        is_known = seen_ms is None or installation.updated_ms <= seen_ms
        if is_known and not any(_is_of(installation, draft) for draft in kept):
            uninstall(context, tx, installation)
    for draft in kept:
        _put(context, tx, user, draft, settings)
    _forget_oldest(context, tx, user)


def _user_meant(tx: Transaction, principal: Principal, user_id: str | None) -> User:
    if principal.is_anonymous:
        raise refusal(principal, "register a device")
    if not principal.is_admin:
        user_id = principal.id
    elif user_id is None:
        raise InvalidRequest(
            "is required with master credentials", field="userId", code="MissingRequestParameter"
        )
    user = tx.users.get(principal.app_id, user_id)
    if user is None:
        raise NotFound("user", user_id, app_id=principal.app_id)
    return user


def _is_of(installation: Installation, draft: DeviceDraft) -> bool:
    return (installation.device_type, installation.registration_id) == (
        draft.device_type,
        draft.token,
    )


def _forget_oldest(context: Context, tx: Transaction, user: User) -> None:
    """Of too many devices, those he used longest ago go."""
    owner, limit = Owner(user.app_id, user.subject), context.limits.max_device_tokens_per_user
    devices = sorted(devices_of(tx, owner), key=lambda each: each.updated_ms)
    for installation in devices[: max(0, len(devices) - limit)]:
        uninstall(context, tx, installation)
