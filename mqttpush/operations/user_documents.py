"""Users as the second dialect's clients and code read them (spec kinvey 3)."""

from __future__ import annotations

from typing import Final

from mqttpush.kinvey import kinvey_time
from mqttpush.models import Installation, Json
from mqttpush.operations.account_links import verification_of
from mqttpush.operations.accounts import Account, shown_name
from mqttpush.operations.devices import PLATFORM_BY_TYPE

# Kept by the server, whatever a client writes there.
OWN_FIELDS: Final = frozenset({"_id", "username", "password", "_acl", "_kmd", "_messaging"})


def user_document(account: Account) -> Json:
    """The user as this dialect shows him, to who may see this account."""
    user = account.user
    modified = kinvey_time(max(user.created_ms, user.modified_ms))
    metadata: Json = {"ect": kinvey_time(user.created_ms), "lmt": modified}
    if user.is_disabled:
        metadata["status"] = {"val": "disabled", "lastChange": modified}
    verification = verification_of(user)
    if verification is not None:
        metadata["emailVerification"] = verification
    document: Json = {"_id": user.user_id, "username": shown_name(user)}
    if user.email_address is not None:
        document["email"] = user.email_address
    own = {name: value for name, value in user.fields.items() if name not in OWN_FIELDS}
    document = {**document, **own, "_acl": {"creator": user.user_id}, "_kmd": metadata}
    if account.devices is not None:
        document["_messaging"] = {"pushTokens": [_push_token(each) for each in account.devices]}
    return document


def _push_token(installation: Installation) -> Json:
    token: Json = {
        "token": installation.registration_id,
        "platform": PLATFORM_BY_TYPE[installation.device_type],
        "arn": None,
    }
    if installation.framework:
        token["framework"] = installation.framework
    if installation.service:
        token["service"] = installation.service
    return token
