"""Bodies of objects: written, read in ranges, deleted, and what becomes of their files."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest

from tests.rest.body_support import CONTINUE, Item, files_of, new_item, until
from tests.rest.support import assert_refused, chunked, read_response
from tests.support.device import Device
from tests.support.rest import Account, Api, unique
from tests.support.server import Server

TEXT = b"0123456789"


@pytest.fixture
def item(api: Api, user: Account) -> Item:
    return new_item(api, user)


# --- one round trip -----------------------------------------------------------------------------


@pytest.mark.spec("kii 4.2")
def test_a_body_is_read_as_it_was_written(item: Item) -> None:
    written = item.call("PUT", content=TEXT, Content_Type="text/plain; charset=UTF-7")
    assert written.status_code == 200
    kind = "application/vnd.kii.ObjectBodyUpdateResponse+json;charset=UTF-8"
    assert written.headers["content-type"] == kind
    assert set(written.json()) == {"modifiedAt"}
    read = item.call("GET")
    assert (read.status_code, read.content) == (200, TEXT)
    assert read.headers["content-type"] == "text/plain; charset=UTF-7"
    assert read.headers["content-length"] == "10"
    assert read.headers["x-http-status-code"] == "200"
    assert read.headers["access-control-allow-origin"] == "*"
    assert read.headers["accept-ranges"] == "bytes"
    assert re.fullmatch('"[^"]+"', read.headers["etag"])
    assert read.headers["etag"] == written.headers["etag"]
    modified_s = parsedate_to_datetime(read.headers["last-modified"]).timestamp()
    assert modified_s == written.json()["modifiedAt"] // 1000


@pytest.mark.spec("kii 4.2")
def test_head_tells_whether_there_is_a_body(item: Item) -> None:
    missing = item.call("HEAD")
    assert (missing.status_code, missing.content) == (404, b"")
    etag = item.put(TEXT, "image/png")
    found = item.call("HEAD")
    assert (found.status_code, found.content) == (204, b"")
    assert (found.headers["etag"], found.headers["content-type"]) == (etag, "image/png")
    assert found.headers["last-modified"]


def test_a_body_without_a_type_is_just_bytes(item: Item) -> None:
    assert item.call("PUT", content=b"\x00\xff").status_code == 200
    read = item.call("GET")
    assert (read.headers["content-type"], read.content) == ("application/octet-stream", b"\x00\xff")


def test_an_empty_body_is_a_body(item: Item) -> None:
    item.put(b"")
    assert item.read() == b""
    assert_refused(item.call("GET", Range="bytes=0-"), 416, "RANGE_NOT_SATISFIABLE")


def test_a_browser_that_opens_a_body_runs_no_script_of_it(item: Item) -> None:
    item.put(b"<script>alert(1)</script>", "text/html")
    headers = item.call("GET").headers
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_body_leaves_the_object_as_it_was(item: Item) -> None:
    before = item.call("GET", "").json()
    item.put(TEXT)
    item.call("DELETE")
    assert item.call("GET", "").json() == before


@pytest.mark.spec("kii 4.2")
def test_a_deleted_body_is_gone(item: Item) -> None:
    item.put(TEXT)
    assert item.call("DELETE").status_code == 204
    assert item.read() is None
    assert_refused(item.call("DELETE"), 404, "OBJECT_BODY_NOT_FOUND")


@pytest.mark.spec("kii 0.2.12")
def test_a_body_in_chunks_is_taken(item: Item) -> None:
    headers = {"Content_Length": "", "Transfer_Encoding": "chunked", "Connection": "Close"}
    with item.begun("/body", 0, **headers) as link:
        link.sendall(chunked(TEXT, 3))
        assert read_response(link).status == 200
    assert item.read() == TEXT


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("tail", ["/body", "/body/uploads"])
def test_what_is_not_there_has_no_body(api: Api, user: Account, method: str, tail: str) -> None:
    if tail.endswith("uploads"):
        method = "POST"
    item = new_item(api, user)
    absent = Item(api, user, item.bucket, "absent")
    assert_refused(absent.call(method, tail, b""), 404, "OBJECT_NOT_FOUND")
    nowhere = Item(api, user, f"/users/me/buckets/{unique('nowhere')}")
    assert_refused(nowhere.call(method, tail, b""), 404, "BUCKET_NOT_FOUND")


def test_a_type_that_is_no_header_for_others_is_refused(item: Item) -> None:
    assert_refused(item.call("PUT", content=b"", Content_Type="x" * 201), 400, "INVALID_INPUT_DATA")


# --- events -------------------------------------------------------------------------------------


def put_body(item: Item) -> None:
    item.put(b"new")


def delete_body(item: Item) -> None:
    assert item.call("DELETE").status_code == 204


def commit_upload(item: Item) -> None:
    upload = item.start_upload()
    assert item.send(upload, b"01234", 0, 10).status_code == 204
    assert item.send(upload, b"56789", 5, 10).status_code == 204
    assert item.call("POST", f"{upload}/status/committed").status_code == 204


def cancel_upload(item: Item) -> None:
    upload = item.start_upload()
    assert item.send(upload, b"01234", 0, 5).status_code == 204
    assert item.call("POST", f"{upload}/status/cancelled").status_code == 204


def fail(item: Item) -> None:
    """Whatever does not happen is not told."""
    assert item.call("PUT", content=b"", If_Match="other").status_code == 409
    assert item.call("PUT", content=b"", If_None_Match="*").status_code == 409
    assert item.call("DELETE", If_Match="other").status_code == 409
    assert item.send(item.start_upload(), b"0", 5, 10).status_code == 400


EVENTS: dict[Callable[[Item], None], list[str]] = {
    put_body: ["DATA_OBJECT_BODY_UPDATED"],
    commit_upload: ["DATA_OBJECT_BODY_UPDATED"],
    delete_body: ["DATA_OBJECT_BODY_DELETED"],
    cancel_upload: [],
    fail: [],
}


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("scope", ["app", "user", "group", "thing"])
@pytest.mark.parametrize("act", EVENTS, ids=lambda act: act.__name__)
def test_a_body_operation_raises_its_own_event_and_no_other(
    api: Api, scope: str, act: Callable[[Item], None]
) -> None:
    writer = api.thing() if scope == "thing" else api.pseudo_user()
    paths = {"app": "", "user": f"/users/{writer.id}", "thing": f"/things/{writer.id}"}
    if scope == "group":
        body = {"name": "team", "owner": writer.id, "members": []}
        group_id = api.ok("POST", "/groups", token=writer.token, json=body)["groupID"]
        paths["group"] = f"/groups/{group_id}"
    item = new_item(api, writer, paths[scope])
    item.put(TEXT)
    api.subscribe(writer, item.bucket)
    with Device(api.mqtt_endpoint(writer)) as device:
        act(item)
        Item(api, writer, item.bucket, "marker").make()
        pushes = []
        while (push := device.next_push())["objectID"] != "marker":
            pushes.append(push)
    assert [push["type"] for push in pushes] == EVENTS[act]
    for push in pushes:
        place = f"{paths[scope]}/".lstrip("/")
        bucket = item.bucket.rpartition("/")[2]
        assert push["sourceURI"] == f"kiicloud://{place}buckets/{bucket}/objects/object"
        assert push["sender"] == writer.id


def test_a_filter_on_the_object_hears_events_of_its_body(api: Api, user: Account) -> None:
    item = new_item(api, user)
    for name, wanted in (("deaf", "no"), ("hearing", "yes")):
        clause = {"type": "eq", "field": "wanted", "value": wanted}
        body = {"eventTypes": ["DATA_OBJECT_BODY_UPDATED"], "clause": clause}
        api.ok("PUT", f"{item.bucket}/filters/{name}", token=user.token, json=body)
        path = f"{item.bucket}/filters/{name}/push/subscriptions/users"
        api.ok("POST", path, token=user.token)
    chosen = Item(api, user, item.bucket, "chosen")
    api.ok("PUT", chosen.path, token=user.token, json={"wanted": "yes"})
    with Device(api.mqtt_endpoint(user)) as device:
        item.put(TEXT)
        item.call("DELETE")
        chosen.put(TEXT)
        push = device.next_push()
    assert (push["type"], push["objectID"]) == ("DATA_OBJECT_BODY_UPDATED", "chosen")


# --- ranges and conditions ----------------------------------------------------------------------

RANGES = {
    "bytes=0-3": (b"0123", "bytes 0-3/10"),
    "bytes=3-3": (b"3", "bytes 3-3/10"),
    "bytes=7-": (b"789", "bytes 7-9/10"),
    "bytes=-2": (b"89", "bytes 8-9/10"),
    "bytes=-99": (TEXT, "bytes 0-9/10"),
    "bytes=8-99": (b"89", "bytes 8-9/10"),
    "Bytes = 1-2": (b"12", "bytes 1-2/10"),
}


@pytest.mark.parametrize("wanted", RANGES)
def test_a_range_is_answered_with_these_bytes(item: Item, wanted: str) -> None:
    etag = item.put(TEXT)
    answer = item.call("GET", Range=wanted)
    assert (answer.content, answer.headers["content-range"]) == RANGES[wanted]
    assert (answer.status_code, answer.headers["x-http-status-code"]) == (206, "206")
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"] == "max-age=0, no-cache, no-store"


def test_several_ranges_come_as_parts(item: Item) -> None:
    item.put(TEXT)
    answer = item.call("GET", Range="bytes=0-1, 5-6")
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"bytes 0-1/10\r\n\r\n01\r\n" in answer.content
    assert b"bytes 5-6/10\r\n\r\n56\r\n" in answer.content


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=0-1,10-11"])
def test_a_range_behind_the_end_is_refused(item: Item, wanted: str) -> None:
    item.put(TEXT)
    assert_refused(item.call("GET", Range=wanted), 416, "RANGE_NOT_SATISFIABLE")


@pytest.mark.parametrize(
    "wanted", ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "lines=0-1", "bytes=1,2"]
)
def test_what_is_no_range_is_refused(item: Item, wanted: str) -> None:
    item.put(TEXT)
    assert_refused(item.call("GET", Range=wanted), 400, "INVALID_INPUT_DATA")


def test_a_range_of_another_body_gives_the_whole(item: Item) -> None:
    old = item.put(b"old")
    new = item.put(TEXT)
    assert item.call("GET", Range="bytes=0-1", If_Range=old).content == TEXT
    assert item.call("GET", Range="bytes=99-", If_Range=old).content == TEXT
    assert item.call("GET", Range="bytes=0-1", If_Range=new).content == b"01"
    answer = item.call("GET", Range="bytes=99-", If_Range=new)
    assert_refused(answer, 416, "RANGE_NOT_SATISFIABLE")


def test_a_body_that_the_client_has_is_not_sent_again(item: Item) -> None:
    etag = item.put(TEXT)
    for known in (etag, f'"other", {etag}', "*", f"W/{etag}"):
        answer = item.call("GET", If_None_Match=known)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert item.call("GET", If_None_Match='"other"').content == TEXT


@pytest.mark.spec("kii 4.3")
def test_every_write_has_an_etag_of_its_own(item: Item) -> None:
    assert item.put(TEXT) != item.put(TEXT)


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_if_match_lets_only_the_named_body_through(item: Item, method: str) -> None:
    old, etag = item.put(b"old"), item.put(TEXT)
    body = assert_refused(item.call(method, If_Match=old), 409, "OBJECT_VERSION_IS_STALE")
    assert body["objectID"] == "object"
    assert item.read() == TEXT
    assert item.call(method, If_Match=etag.strip('"')).is_success


@pytest.mark.spec("kii 4.3")
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_on_no_body_finds_none(item: Item, method: str) -> None:
    assert_refused(item.call(method, If_Match='"x"'), 404, "OBJECT_BODY_NOT_FOUND")
    assert_refused(item.call(method, If_Match="?"), 400, "INVALID_INPUT_DATA")


@pytest.mark.spec("kii 4.3")
def test_if_none_match_writes_only_where_no_body_is(item: Item) -> None:
    assert item.call("PUT", content=TEXT, If_None_Match="*").status_code == 200
    again = item.call("PUT", content=b"new", If_None_Match="*")
    assert_refused(again, 409, "OBJECT_BODY_ALREADY_EXISTS")
    both = item.call("PUT", content=b"new", If_None_Match="*", If_Match="x")
    assert_refused(both, 400, "INVALID_INPUT_DATA")
    assert item.read() == TEXT


# --- rights -------------------------------------------------------------------------------------


def test_a_stranger_neither_reads_nor_writes(item: Item, other_user: Account) -> None:
    item.put(TEXT)
    stranger = Item(item.api, other_user, item.bucket.replace("me", item.account.id))
    for method in ("GET", "PUT", "DELETE"):
        assert_refused(stranger.call(method), 401, "UNAUTHORIZED")
    assert stranger.call("HEAD").status_code == 401
    assert_refused(stranger.call("POST", "/body/uploads"), 401, "UNAUTHORIZED")
    assert item.read() == TEXT


def test_who_may_read_may_not_write(item: Item, other_user: Account) -> None:
    item.put(TEXT)
    rule = f"/acl/READ_EXISTING_OBJECT/UserID:{other_user.id}"
    assert item.call("PUT", rule).status_code == 204
    reader = Item(item.api, other_user, item.bucket.replace("me", item.account.id))
    assert reader.read() == TEXT
    for method in ("PUT", "DELETE"):
        assert_refused(reader.call(method), 401, "UNAUTHORIZED")
    assert_refused(reader.call("POST", "/body/uploads"), 401, "UNAUTHORIZED")


def test_rights_are_asked_before_the_first_byte_is_taken(item: Item, other_user: Account) -> None:
    stranger = Item(item.api, other_user, item.bucket.replace("me", item.account.id))
    with stranger.begun("/body", 10**9, Expect="100-continue") as link:
        assert read_response(link).status == 401
    with item.begun("/body", 3, Expect="100-continue") as link:
        assert link.recv(25) == CONTINUE
        link.sendall(b"yes")
        assert read_response(link).status == 200
    assert item.read() == b"yes"


def test_rights_are_asked_again_before_a_body_is_seen(item: Item, server: Server) -> None:
    before = files_of(server.folder)
    with item.begun("/body", 10) as link:
        link.sendall(b"01234")
        until(lambda: bool(files_of(server.folder) - before), item.api)
        assert item.call("DELETE", "").status_code == 204
        link.sendall(b"56789")
        answer = read_response(link)
    assert (answer.status, answer.json()["errorCode"]) == (404, "OBJECT_NOT_FOUND")
    until(lambda: files_of(server.folder) <= before, item.api)
