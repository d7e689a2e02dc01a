"""Bodies in parts: in order, sent again, broken off, committed, cancelled, expired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.rest.body_support import CONTINUE, Item, files_of, new_item, until
from tests.rest.support import assert_refused, read_response
from tests.support.rest import Account, Api
from tests.support.server import Server

TEXT = b"0123456789"


@pytest.fixture
def item(api: Api, user: Account) -> Item:
    return new_item(api, user)


@pytest.fixture
def upload(item: Item) -> str:
    return item.start_upload()


def commit(item: Item, upload: str) -> httpx.Response:
    return item.call("POST", f"{upload}/status/committed")


def committed(item: Item, upload: str) -> None:
    answer = commit(item, upload)
    assert (answer.status_code, answer.content) == (204, b""), answer.text


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("sent", [b"{}", b"", b'{"clientHash": "x"}'])
@pytest.mark.parametrize("name", ["StartObjectBodyUploadRequest", "startobjectbodyuploadrequest"])
def test_an_upload_starts_with_an_id(item: Item, sent: bytes, name: str) -> None:
    kind = f"application/vnd.kii.{name}+json"
    answer = item.call("POST", "/body/uploads", sent, Content_Type=kind)
    assert answer.status_code == 200
    expected = "application/vnd.kii.StartObjectBodyUploadResponse+json;charset=UTF-8"
    assert answer.headers["content-type"] == expected
    assert list(answer.json()) == ["uploadID"]
    assert len(answer.json()["uploadID"]) <= 64  # what the embedded clients keep


@pytest.mark.spec("kii 4.2")
@pytest.mark.parametrize("sign", ["=", " "])
def test_parts_in_order_become_the_body_at_the_commit(item: Item, upload: str, sign: str) -> None:
    item.put(b"old")
    for start in range(0, 10, 4):
        part = TEXT[start : start + 4]
        span = f"bytes{sign}{start}-{start + len(part) - 1}/10"
        answer = item.call(
            "PUT", f"{upload}/data", part, Content_Range=span, Content_Type="video/mp4"
        )
        assert (answer.status_code, answer.content) == (204, b"")
        assert item.received(upload) == start + len(part)
        assert item.read() == b"old"
    committed(item, upload)
    read = item.call("GET")
    assert (read.content, read.headers["content-type"]) == (TEXT, "video/mp4")


def test_an_upload_tells_how_far_it_is(item: Item, upload: str) -> None:
    state = item.call("GET", upload).json()
    assert set(state) == {"uploadID", "contentType", "receivedBytes", "expiresAt"}
    item.send(upload, TEXT, 0, 20, content_type="text/plain")
    later = item.call("GET", upload).json()
    assert (later["receivedBytes"], later["totalBytes"]) == (10, 20)
    assert later["contentType"] == "text/plain"
    assert later["expiresAt"] >= state["expiresAt"]


def test_a_part_sent_again_changes_nothing(item: Item, upload: str) -> None:
    assert item.send(upload, b"01234", 0, 10).status_code == 204
    assert item.send(upload, b"XXXXX", 0, 10).status_code == 204
    assert item.send(upload, b"XX", 2, 10).status_code == 204
    assert item.received(upload) == 5
    assert item.send(upload, b"XX56789", 3, 10).status_code == 204
    committed(item, upload)
    assert item.read() == TEXT


@pytest.mark.parametrize(
    ("part", "start", "total"),
    [(b"6789", 6, 10), (b"56789", 5, 11), (b"56", 5, 7), (b"5", 9, 10)],
    ids=["a gap", "a longer total", "a shorter total", "a gap at the end"],
)
def test_a_part_that_does_not_fit_is_refused(
    item: Item, upload: str, part: bytes, start: int, total: int
) -> None:
    assert item.send(upload, b"01234", 0, 10).status_code == 204
    assert_refused(item.send(upload, part, start, total), 400, "INVALID_INPUT_DATA")
    assert item.received(upload) == 5


@pytest.mark.parametrize("sent", [b"", b"0123", b"012345"], ids=["none", "fewer", "more"])
def test_a_part_of_another_length_than_it_says_is_refused(
    item: Item, upload: str, sent: bytes
) -> None:
    answer = item.call("PUT", f"{upload}/data", sent, Content_Range="bytes=0-4/10")
    assert_refused(answer, 400, "INVALID_INPUT_DATA")
    assert item.received(upload) == 0
    assert item.send(upload, TEXT, 0, 10).status_code == 204
    committed(item, upload)
    assert item.read() == TEXT


@pytest.mark.parametrize(
    "span", ["", "bytes", "bytes=0-4", "bytes=0-4/*", "bytes=4-0/10", "bytes=5-10/10", "x=0-4/10"]
)
def test_what_is_no_content_range_is_refused(item: Item, upload: str, span: str) -> None:
    answer = item.call("PUT", f"{upload}/data", b"01234", Content_Range=span)
    assert_refused(answer, 400, "INVALID_INPUT_DATA")


def test_an_upload_that_is_not_whole_is_not_committed(item: Item, upload: str) -> None:
    for _ in range(2):
        answer = commit(item, upload)
        assert_refused(answer, 400, "INVALID_INPUT_DATA")
        item.send(upload, b"01234", 0, 10)
    assert item.read() is None
    item.send(upload, b"56789", 5, 10)
    committed(item, upload)
    assert item.read() == TEXT


@pytest.mark.parametrize("end", ["committed", "cancelled"])
def test_an_upload_that_has_ended_is_gone(item: Item, upload: str, end: str) -> None:
    item.send(upload, TEXT, 0, 10)
    assert item.call("POST", f"{upload}/status/{end}").status_code == 204
    assert_refused(item.call("GET", upload), 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")
    assert_refused(item.send(upload, TEXT, 0, 10), 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")
    for again in ("committed", "cancelled"):
        answer = item.call("POST", f"{upload}/status/{again}")
        assert_refused(answer, 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")
    assert item.read() == (TEXT if end == "committed" else None)


def test_a_cancelled_upload_leaves_no_file(item: Item, upload: str, server: Server) -> None:
    before = files_of(server.folder)
    item.send(upload, TEXT, 0, 10)
    assert files_of(server.folder) - before
    item.call("POST", f"{upload}/status/cancelled")
    until(lambda: files_of(server.folder) <= before, item.api)


@pytest.mark.spec("kii 4.3")
def test_a_commit_has_conditions_too(item: Item, upload: str) -> None:
    etag = item.put(b"old")
    item.send(upload, TEXT, 0, 10)
    path = f"{upload}/status/committed"
    assert_refused(item.call("POST", path, If_Match="other"), 409, "OBJECT_VERSION_IS_STALE")
    assert_refused(item.call("POST", path, If_None_Match="*"), 409, "OBJECT_BODY_ALREADY_EXISTS")
    assert item.read() == b"old"
    answer = item.call("POST", path, If_Match=etag)
    assert answer.status_code == 204
    assert item.call("HEAD").headers["etag"] == answer.headers["etag"]


def test_an_upload_is_its_creators_and_the_administrators(
    api: Api, user: Account, other_user: Account, admin_token: str
) -> None:
    item = new_item(api, user, "")  # whom the app lets write it
    upload = item.start_upload()
    other = Item(api, other_user, item.bucket)
    assert other.put(b"may write")
    for answer in (
        other.call("GET", upload),
        other.send(upload, TEXT, 0, 10),
        other.call("POST", f"{upload}/status/committed"),
        other.call("POST", f"{upload}/status/cancelled"),
    ):
        assert_refused(answer, 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")
    admin = Item(api, Account("", admin_token), item.bucket)
    assert admin.send(upload, TEXT, 0, 10).status_code == 204
    committed(admin, upload)


def test_an_upload_belongs_to_one_object(item: Item, upload: str) -> None:
    sibling = Item(item.api, item.account, item.bucket, "sibling").make()
    assert_refused(sibling.call("GET", upload), 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")
    assert_refused(sibling.send(upload, b"0", 0, 1), 404, "OBJECT_BODY_UPLOAD_NOT_FOUND")


def test_a_right_that_was_lost_stops_an_upload(
    api: Api, user: Account, other_user: Account
) -> None:
    item = new_item(api, user, f"/users/{user.id}")
    rule = f"/acl/WRITE_EXISTING_OBJECT/UserID:{other_user.id}"
    assert item.call("PUT", rule).status_code == 204
    guest = Item(api, other_user, item.bucket)
    upload = guest.start_upload()
    assert guest.send(upload, TEXT, 0, 10).status_code == 204
    assert item.call("DELETE", rule).status_code == 204
    for answer in (guest.call("GET", upload), guest.call("POST", f"{upload}/status/committed")):
        assert_refused(answer, 401, "UNAUTHORIZED")
    assert item.read() is None


def test_a_part_that_breaks_off_counts_nothing_and_the_next_goes_on(
    item: Item, upload: str
) -> None:
    item.send(upload, b"01234", 0, 20)
    headers = {"Content_Range": "bytes=5-19/20", "Expect": "100-continue"}
    with item.begun(f"{upload}/data", 15, **headers) as link:
        assert link.recv(25) == CONTINUE
        link.sendall(b"XXXXX")
        assert item.received(upload) == 5
    until(lambda: item.send(upload, TEXT[5:] + TEXT, 5, 20).status_code == 204, item.api)
    committed(item, upload)
    assert item.read() == TEXT + TEXT


def test_two_writers_do_not_mix(item: Item, upload: str) -> None:
    headers = {"Content_Range": "bytes=0-9/10", "Expect": "100-continue"}
    with item.begun(f"{upload}/data", 10, **headers) as link:
        assert link.recv(25) == CONTINUE
        link.sendall(b"01234")
        for answer in (
            item.send(upload, b"XXXXXXXXXX", 0, 10),
            commit(item, upload),
        ):
            assert_refused(answer, 409, "OPERATION_NOT_ALLOWED")
        link.sendall(b"56789")
        assert read_response(link).status == 204
    committed(item, upload)
    assert item.read() == TEXT


def test_an_upload_cancelled_while_a_part_arrives_leaves_nothing(
    item: Item, upload: str, server: Server
) -> None:
    before = files_of(server.folder)
    with item.begun(f"{upload}/data", 10, Content_Range="bytes=0-9/10") as link:
        link.sendall(b"01234")
        until(lambda: bool(files_of(server.folder) - before), item.api)
        assert item.call("POST", f"{upload}/status/cancelled").status_code == 204
        link.sendall(b"56789")
        assert read_response(link).status == 404
    until(lambda: files_of(server.folder) <= before, item.api)


# --- limits, time, restarts ---------------------------------------------------------------------


@pytest.fixture
def hasty(start_server: StartServer) -> Iterator[tuple[Server, Item]]:
    """A server that allows two uploads, for three seconds; and an object of it."""
    server = start_server(LIMITS__MAX_UPLOADS_PER_OWNER="2", LIMITS__UPLOAD_EXPIRY_S="3")
    api = Api(server.url, server.create_app("hasty"))
    yield server, new_item(api, api.pseudo_user())
    api.close()


def test_uploads_are_limited_and_end_when_nobody_goes_on(hasty: tuple[Server, Item]) -> None:
    server, item = hasty
    uploads = [item.start_upload() for _ in range(2)]
    assert item.send(uploads[0], TEXT, 0, 10).status_code == 204
    assert_refused(item.call("POST", "/body/uploads"), 429, "TOO_MANY_REQUESTS")
    metrics = item.api.http.get(f"{server.url}/metrics").text
    assert 'mqttpush_limits_reached_total{limit="limits.max_uploads_per_owner"} 1.0' in metrics
    other = item.api.pseudo_user()
    assert new_item(item.api, other).start_upload()
    until(lambda: item.call("GET", uploads[0]).status_code == 404, item.api)
    until(lambda: not files_of(server.folder), item.api)
    until(lambda: item.call("POST", "/body/uploads").is_success, item.api)


def test_an_upload_goes_on_after_a_crash(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    app = server.create_app("crashed")
    api = Api(server.url, app)
    item = new_item(api, api.pseudo_user())
    upload = item.start_upload()
    assert item.send(upload, b"01234", 0, 10).status_code == 204
    with item.begun(f"{upload}/data", 5, Content_Range="bytes=5-9/10") as link:
        link.sendall(b"XX")
        server.kill()
    api.close()
    again = Api(start_server().url, app)
    item = Item(again, item.account, item.bucket)
    assert item.received(upload) == 5
    assert item.send(upload, b"56789", 5, 10).status_code == 204
    committed(item, upload)
    assert item.read() == TEXT
    assert len(files_of(tmp_path)) == 1
    again.close()
