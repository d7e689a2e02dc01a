"""A world in which every route of the document has something to work on.

Made of what /openapi.json tells, so a new route is tried without anybody remembering it: a path
becomes a request by putting this world's IDs into it, a body by its schema's name. Everything in
the world carries a mark, by which a leak can be recognized.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from tests.rest.kinvey import samples
from tests.support.operating import choose
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

MARK = "only-for-the-owner"
METHODS = ("get", "head", "post", "put", "patch", "delete")
SCOPES = ("", "/users/{userID}", "/groups/{groupID}", "/things/{thingID}")
_APP = re.compile(r"/(api|thing-if)/apps/\{appID\}")
KINVEY_APP = "{appKey}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_MADE = re.compile(r"/\{(bucket|topic|group)ID\}$")  # a PUT of it makes it, so it must be new

SCRIPT = b"function hello(params, context) { return params; }"
_BYTES = b"\x00" + MARK.encode()
_MESSAGE = {"data": {"text": MARK}, "mqtt": {"enabled": True}}
_BODIES: dict[str, Any] = {
    "UserRegistration": {"displayName": MARK},
    "ThingRegistration": {"_password": "123456", "note": MARK},
    "AnyFields": {"text": MARK},
    "PasswordChange": {"newPassword": "another one"},
    "Status": {"disabled": False},
    "InstallationCreation": {"deviceType": "MQTT"},
    "QueryRequest": {},
    "FilterBody": {"clause": {"type": "eq", "field": "text", "value": MARK}},
    "SendPushMessage": _MESSAGE,
    "GroupCreation": {"name": MARK},
    "GroupChange": {"name": MARK},
    "OwnershipRequest": {},
    "OnboardingRequest": {"thingPassword": "123456"},
    "CommandCreation": {"actions": [{"turnPower": {"power": True}}]},
    "CommandResults": {"actionResults": [{"turnPower": {"succeeded": True}}]},
    "StateBulk": {"states": [{"generatedAt": 1, "payload": {"lamp": {"text": MARK}}}]},
    "NewVendorThingId": {"_password": "123456"},
    "ThingPassword": {"newPassword": "another one"},
    "ThingType": {"thingType": MARK},
    "FirmwareVersion": {"firmwareVersion": MARK},
}

# What ends a thing's tokens.
_SECRETS_OF_THING = r"/things/\{thingID\}/(password|vendor-thing-id)"

# What the world's own things are called, by the name of a path's parameter.
_NAMES = {
    "groupID": "team",
    "alias": "lamp",
    "bucketID": "bucket",
    "objectID": "object",
    "topicID": "topic",
    "filterID": "filter",
    "network": "webpush",
    "collection": "collection",
    "entityID": "entity",
    "channels": "-",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as the document tells it."""

    method: str
    path: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def inside(self) -> str:
        """The path below the app; the whole path of a route outside of any app."""
        return _APP.sub("", self.path)

    @property
    def is_of_kinvey(self) -> bool:
        """Of the second dialect, and so called with credentials of its kind."""
        return KINVEY_APP in self.path

    @property
    def is_of_app(self) -> bool:
        return _APP.match(self.path) is not None

    @property
    def scope(self) -> str:
        """The longest scope the path lies in, with a resource of that scope after it."""
        for scope in SCOPES[1:]:
            if re.match(re.escape(scope) + "/(buckets|topics|acl)", self.inside):
                return scope
        return ""


def read_operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(method.upper(), path, item[method])


@dataclass(slots=True)
class World:
    """An app full of one user's things. values: by the name of a path's parameter."""

    api: Api
    admin: Account
    user: Account
    member: Account  # of the same group
    stranger: Account  # was in that group, and has left
    thing: Account
    other_thing: Account
    spare: Account
    spare_thing: Account
    values: dict[str, str] = field(default_factory=dict)
    # Of each scope: one to send data to and commit, one to cancel.
    uploads: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Who may try an operation until one may do it."""
        return (self.admin, self.user, self.member, self.thing, self.other_thing)

    def call(
        self, operation: Operation, account: Account | None, app: Api | None = None
    ) -> httpx.Response:
        """Send the operation's sample request. app: whose ID stands in the path, ours if None."""
        app = app or self.api
        if operation.is_of_kinvey:
            return self._call_kinvey(operation, account, app)
        url = app.url + self._filled(operation, app.app_id)
        body, headers = self._body(operation)
        if operation.path.endswith("/data"):
            assert body is not None
            headers["Content-Range"] = f"bytes=0-{len(body) - 1}/{len(body)}"
        token = account.token if account else None
        return app.call(operation.method, url, token=token, content=body, headers=headers)

    def _call_kinvey(
        self, operation: Operation, account: Account | None, app: Api
    ) -> httpx.Response:
        method, path = operation.method, operation.path
        if account is None:
            authorization = samples.basic(app.app_id, app.app["appKey"])
        elif not account.id:
            authorization = samples.basic(app.app_id, app.app["clientSecret"])
        else:
            # Who logs out could do nothing any more.
            logs_out = path.endswith("/_logout") and account is self.user
            authorization = f"Kinvey {(app.pseudo_user() if logs_out else account).token}"
        values = {**self.values, "appKey": app.app_id, "id": self.user.id}
        if method in ("PUT", "DELETE"):
            values["id"] = self.api.pseudo_user().id if method == "DELETE" else self.spare.id
        url = app.url + samples.path_of(path, values) + samples.query_of(method, path)
        body = samples.body_of(path) if operation.described.get("requestBody") else None
        headers = samples.headers_of(authorization)
        return app.http.request(method, url, json=body, headers=headers)

    def _filled(self, operation: Operation, app_id: str) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name == "appID":
                return app_id
            return quote(self._value(operation, name), safe="")

        return _PARAMETER.sub(value, operation.path)

    def _value(self, operation: Operation, name: str) -> str:
        inside = operation.inside
        if name == "userID" and "/members/" in inside:
            return self.member.id
        if name == "userID" and re.fullmatch(r"/users/\{userID\}(/password|/status)?", inside):
            return self.spare.id
        if name == "thingID" and re.fullmatch(_SECRETS_OF_THING, inside):
            return self.spare_thing.id
        if name == "subscriberID":
            return self.spare.id if inside.endswith("users/{subscriberID}") else self.spare_thing.id
        if name == "verb":
            return _verb(inside)
        if name == "uploadID":
            return self.uploads[operation.scope]["cancelled" if "cancelled" in inside else "data"]
        if name == "uploadID":
            return self._upload(operation)
        if operation.method == "PUT" and _MADE.search(inside):
            return unique("new") if inside.endswith(f"{{{name}}}") else self.values[name]
        return self.values[name]

    def _upload(self, operation: Operation) -> str:
        """An upload of the operation's object, complete if it is to be committed."""
        uploads = operation.path.partition("/{uploadID}")[0]
        path = self._filled(Operation("POST", uploads, {}), self.api.app_id)
        token = self.admin.token
        upload_id = str(self.api.ok("POST", self.api.url + path, token=token)["uploadID"])
        if operation.path.endswith("/committed"):
            headers = {"Content-Range": f"bytes=0-{len(MARK) - 1}/{len(MARK)}"}
            data = f"{self.api.url}{path}/{upload_id}/data"
            self.api.ok("PUT", data, token=token, content=MARK.encode(), headers=headers)
        return upload_id

    def _body(self, operation: Operation) -> tuple[bytes | None, dict[str, str]]:
        described = operation.described.get("requestBody")
        if described is None:
            return None, {}
        media_type = next(iter(described["content"]))
        if operation.path.endswith("/server-code"):
            return SCRIPT, {"Content-Type": media_type}
        if operation.path.endswith("/server-code/versions/current"):
            return self.values["versionID"].encode(), {"Content-Type": media_type}
        if media_type == "*/*":
            part = {"Content-Range": f"bytes=0-{len(_BYTES) - 1}/{len(_BYTES)}"}
            return _BYTES, {"Content-Type": "application/octet-stream", **part}
        reference = described["content"][media_type]["schema"].get("$ref", "")
        body = self._sample(operation, reference.rpartition("/")[2])
        return json.dumps(body).encode(), {"Content-Type": media_type}

    def _sample(self, operation: Operation, name: str) -> Any:
        if name == "TokenRequest":
            app = self.api.app
            return {"client_id": app["clientID"], "client_secret": app["clientSecret"]}
        body = dict(_BODIES.get(name, {}))
        if name == "ThingRegistration":
            body["_vendorThingID"] = unique("registered")
        elif name == "BodyMove":
            body = self._move_to_itself(operation)
        elif name == "NewVendorThingId":
            body["_vendorThingID"] = unique("renamed")
        elif name == "OnboardingRequest":
            body["vendorThingID"] = unique("onboarded")
        elif name == "OwnershipRequest":
            body["userID"] = self.member.id
        elif name == "InstallationCreation":
            body["installationRegistrationID"] = unique("device")
        elif operation.path.endswith("/networks/{network}"):
            body = {"subject": "mailto:push@example.com"}
        elif operation.path.endswith("/states") and operation.method == "PATCH":
            body = {"lamp": {"text": MARK}}
        elif operation.path.endswith("/hooks/versions/{versionID}"):
            body = {}
        elif operation.path.endswith("/owner"):
            body = {"owner": self.user.id}
        return body

    def _move_to_itself(self, operation: Operation) -> dict[str, Any]:
        scope: dict[str, str] = {"type": "APP"}
        for kind, name in (("USER", "userID"), ("GROUP", "groupID"), ("THING", "thingID")):
            if f"{{{name}}}" in operation.path:
                scope = {"type": f"APP_AND_{kind}", name: self.values[name]}
        target = {"targetBucketID": "bucket", "targetObjectID": "object"}
        return {"targetObjectScope": scope, **target}


def _verb(inside: str) -> str:
    if "/objects/" in inside:
        return "WRITE_EXISTING_OBJECT"
    if "/buckets/" in inside:
        return "DROP_BUCKET_WITH_ALL_CONTENT"
    return "SEND_MESSAGE_TO_TOPIC" if "/topics/" in inside else "CREATE_NEW_TOPIC"


def make_world(server: Server, name: str) -> World:
    """A new app; what paths name but cannot make is made, the rest its operations make."""
    api = Api(server.url, server.create_app(name))
    user, member, stranger = api.pseudo_user(), api.pseudo_user(), api.pseudo_user()
    thing, other_thing, admin = api.thing(), api.thing(), Account("", api.admin_token())
    world = World(
        api, admin, user, member, stranger, thing, other_thing, api.pseudo_user(), api.thing()
    )
    ok, token = api.ok, user.token
    choose(server, api.app_id, is_live_service_on=True)
    _fill_kinvey(world)
    ok("PUT", "/groups/team", token=token, json={"name": MARK, "members": [member.id]})
    ok("PUT", f"/groups/team/members/{stranger.id}", token=token)
    ok("DELETE", f"/groups/team/members/{stranger.id}", token=stranger.token)
    ok("PATCH", "/users/me", token=token, json={"displayName": MARK})
    ok("PATCH", f"/things/{thing.id}", token=thing.token, json={"note": MARK})
    ok("PUT", f"/things/{thing.id}/ownership/user:{user.id}", token=thing.token)
    body = {"deviceType": "MQTT", "installationRegistrationID": MARK}
    installation = ok("POST", "/installations", token=token, json=body)
    message = ok("POST", "/users/me/push/messages", token=token, json=_MESSAGE)
    target = f"thing:{thing.id}"
    commands = f"{server.url}/thing-if/apps/{api.app_id}/targets/{target}/commands"
    command = ok("POST", commands, token=token, json=_BODIES["CommandCreation"])
    world.values = {
        **_NAMES,
        "userID": user.id,
        "thingID": thing.id,
        "installationID": installation["installationID"],
        "messageID": message["pushMessageID"],
        "target": target,
        "commandID": command["commandID"],
        "owner": f"user:{world.spare.id}",
        "subject": f"UserID:{stranger.id}",
    }
    for scope in SCOPES:
        place = scope.format(**world.values)
        _fill_scope(world, place)
        uploads = f"{place}/buckets/bucket/objects/object/body/uploads"
        world.uploads[scope] = {
            purpose: ok("POST", uploads, token=world.admin.token, json={})["uploadID"]
            for purpose in ("data", "cancelled")
        }
    return world


def deploy(api: Api, token: str) -> str:
    """A current version of server code, with hooks; its ID."""
    kind = {"Content-Type": "application/javascript"}
    made = api.ok("POST", "/server-code", token=token, content=SCRIPT, headers=kind)
    version_id = str(made["versionID"])
    current, text = "/server-code/versions/current", {"Content-Type": "text/plain"}
    api.ok("PUT", current, token=token, content=version_id.encode(), headers=text)
    api.ok("PUT", f"/hooks/versions/{version_id}", token=token, json={})
    return version_id


def _fill_kinvey(world: World) -> None:
    """Somebody who can log in, and a collection with an entity."""
    api = world.api
    headers = samples.headers_of(samples.basic(api.app_id, api.app["clientSecret"]))
    for method, path, body in (
        ("POST", "user/{}", {"username": MARK, "password": "secret"}),
        ("PUT", "appdata/{}/collection/entity", {"text": MARK}),
    ):
        url = f"{api.url}/{path.format(api.app_id)}"
        answer = api.http.request(method, url, json=body, headers=headers)
        assert answer.is_success, answer.text


def _fill_scope(world: World, scope: str) -> None:
    """A bucket with an object and a filter, and a topic, that the user's friends may use."""
    api, token = world.api, world.admin.token if not scope else world.user.token
    if not scope:
        world.values |= {"versionID": deploy(api, token), "endpoint": "hello"}
    bucket, topic = f"{scope}/buckets/bucket", f"{scope}/topics/topic"
    api.ok("PUT", f"{bucket}/objects/object", token=token, json={"text": MARK})
    api.ok("PUT", f"{bucket}/objects/object/body", token=token, content=_BYTES)
    api.ok("PUT", f"{bucket}/filters/filter", token=token, json=_BODIES["FilterBody"])
    if not scope:
        published = api.ok("POST", f"{bucket}/objects/object/body/publish", token=token)
        world.values |= {"publicationID": published["publicationID"]}
    api.ok("PUT", topic, token=token)
    friends = [
        *(f"UserID:{each.id}" for each in (world.member, world.spare)),
        *(f"ThingID:{each.id}" for each in (world.thing, world.other_thing, world.spare_thing)),
    ]
    for friend in friends:
        for rule in (
            f"{bucket}/acl/QUERY_OBJECTS_IN_BUCKET/{friend}",
            f"{topic}/acl/SUBSCRIBE_TO_TOPIC/{friend}",
        ):
            answer = api.call("PUT", rule, token=world.admin.token)
            assert answer.status_code in (204, 409), answer.text  # a thing has it in its own scope
