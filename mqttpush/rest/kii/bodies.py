"""Bodies of objects, whole and in parts, in every scope (spec kii 4.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import Final

from mqttpush.bodies import Body, Part
from mqttpush.errors import InvalidRequest
from mqttpush.operations.bodies import Bodies, BodyCondition, ObjectReference, OpenBody
from mqttpush.operations.uploads import DEFAULT_CONTENT_TYPE, UploadReference, Uploads
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    AnyFields,
    bucket_id_of,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    object_id_of,
    scope_of,
    takes,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route

_ANY_TYPE: Final = Content(None, ("*/*",))
_CONTENT_TYPE: Final = re.compile(r"[\x20-\x7e]{1,200}")
_ETAG: Final = re.compile(r'(?:W/)?"?([0-9A-Za-z]+)"?')
# Clients of this dialect write `bytes=`, others `bytes ` as HTTP does.
_CONTENT_RANGE: Final = re.compile(r"bytes[= ]\s*(\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)
_RANGES: Final = re.compile(
    r"bytes\s*=\s*(?:\d{1,18}-\d{0,18}|-\d{1,18})(?:\s*,.*)?", re.IGNORECASE
)
_RANGE: Final = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})")
# A body is a stranger's: a browser that opens it runs no script of it.
_HARMLESS: Final = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}


class BodyRoutes:
    """…/objects/{objectID}/body and the uploads below it."""

    def __init__(self, bodies: Bodies, uploads: Uploads) -> None:
        self._bodies = bodies
        self._uploads = uploads

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        body = f"{APP}{{scope}}/buckets/{{bucketID}}/objects/{{objectID}}/body"
        written = gives(answers.BodyWritten, "ObjectBodyUpdateResponse")
        conditions = ("bodyIfMatch", "bodyIfNoneMatch")
        yield Route("HEAD", body, self.head, "Is there a body?", (204,))
        yield Route(
            "GET",
            body,
            self.get,
            "Get the body of an object",
            (200, 206, 304, 409, 416),
            answer=_ANY_TYPE,
            parameters=("Range", "bodyIfMatch", "knownBody"),
        )
        yield Route(
            "PUT",
            body,
            self.put,
            "Replace the body of an object",
            (200, 408, 409),
            _ANY_TYPE,
            written,
            conditions,
            is_streamed=True,
        )
        delete, gone = "Delete the body of an object", (204, 409)
        yield Route("DELETE", body, self.delete, delete, gone, parameters=("bodyIfMatch",))
        yield from self._upload_table(f"{body}/uploads")

    def _upload_table(self, uploads: str) -> Iterator[Route]:
        one = f"{uploads}/{{uploadID}}"
        wanted = takes(AnyFields, "StartObjectBodyUploadRequest")
        started = gives(answers.UploadStarted, "StartObjectBodyUploadResponse")
        shown = gives(answers.UploadState, "ObjectBodyUploadResponse")
        start, send = "Start to upload a body in parts", "Send a part of a body"
        yield Route("POST", uploads, self.start, start, (200, 429), wanted, started)
        yield Route("GET", one, self.get_upload, "How far is an upload?", answer=shown)
        yield Route(
            "PUT",
            f"{one}/data",
            self.put_part,
            send,
            (204, 408, 409),
            _ANY_TYPE,
            parameters=("Content-Range",),
            is_streamed=True,
        )
        yield Route(
            "POST",
            f"{one}/status/committed",
            self.commit,
            "Make a whole upload the body",
            (204, 409),
            parameters=("bodyIfMatch", "bodyIfNoneMatch"),
        )
        cancelled = f"{one}/status/cancelled"
        yield Route("POST", cancelled, self.cancel, "Throw an upload away", (204,))

    async def head(self, request: ApiRequest) -> ApiResponse:
        body = await self._bodies.get(credentials_of(request), object_of(request))
        headers = {**_body_headers(body), "content-type": body.content_type}
        return ApiResponse(204, headers=headers)

    async def get(self, request: ApiRequest) -> ApiResponse:
        """All of it or the ranges asked for; 304 for a body that the client has."""
        credentials, reference = credentials_of(request), object_of(request)
        condition = BodyCondition(blob=_if_match(request))
        known = request.headers.get("if-none-match")
        if known is not None:
            body = await self._bodies.get(credentials, reference, condition)
            if known.strip() == "*" or body.blob in _etags(known):
                return ApiResponse(304, headers=_body_headers(body))
        return file_answer(request, await self._bodies.open(credentials, reference, condition))

    async def put(self, request: ApiRequest) -> ApiResponse:
        body = await self._bodies.put(
            credentials_of(request),
            object_of(request),
            _content_type(request),
            request.chunks(),
            _condition(request),
            size_bytes=_declared_size(request),
        )
        fields = {"modifiedAt": body.modified_ms}
        headers = _body_headers(body)
        return ApiResponse(200, fields, kii_type("ObjectBodyUpdateResponse"), headers)

    async def delete(self, request: ApiRequest) -> ApiResponse:
        condition = BodyCondition(blob=_if_match(request))
        await self._bodies.delete(credentials_of(request), object_of(request), condition)
        return no_content()

    async def start(self, request: ApiRequest) -> ApiResponse:
        upload = await self._uploads.start(credentials_of(request), object_of(request))
        fields = {"uploadID": upload.upload_id}
        return ApiResponse(200, fields, kii_type("StartObjectBodyUploadResponse"))

    async def get_upload(self, request: ApiRequest) -> ApiResponse:
        upload = await self._uploads.get(credentials_of(request), _upload(request))
        fields = {
            "uploadID": upload.upload_id,
            "contentType": upload.content_type,
            "receivedBytes": upload.received_bytes,
            "expiresAt": upload.expires_ms,
        }
        if upload.total_bytes is not None:
            fields["totalBytes"] = upload.total_bytes
        return ApiResponse(200, fields, kii_type("ObjectBodyUploadResponse"))

    async def put_part(self, request: ApiRequest) -> ApiResponse:
        await self._uploads.put_part(
            credentials_of(request),
            _upload(request),
            _content_type(request),
            _part(request),
            request.chunks(),
        )
        return no_content()

    async def commit(self, request: ApiRequest) -> ApiResponse:
        body = await self._uploads.commit(
            credentials_of(request), _upload(request), _condition(request)
        )
        return ApiResponse(204, headers=_body_headers(body))

    async def cancel(self, request: ApiRequest) -> ApiResponse:
        await self._uploads.cancel(credentials_of(request), _upload(request))
        return no_content()


def file_answer(request: ApiRequest, opened: OpenBody) -> ApiResponse:
    """The body, or the ranges asked for; raises InvalidRequest for ranges it does not have."""
    try:
        _check_range(request, opened.body)
    except InvalidRequest:
        opened.file.close()
        raise
    headers = {**_body_headers(opened.body), **_HARMLESS}
    return ApiResponse(
        200, content_type=opened.body.content_type, headers=headers, file=opened.file
    )


def object_of(request: ApiRequest) -> ObjectReference:
    """The object of the path."""
    return ObjectReference(scope_of(request), bucket_id_of(request), object_id_of(request))


def _upload(request: ApiRequest) -> UploadReference:
    return UploadReference(object_of(request), request.parameters["uploadID"])


def _body_headers(body: Body) -> dict[str, str]:
    modified = formatdate(body.modified_ms / 1000, usegmt=True)
    return {"etag": f'"{body.blob}"', "last-modified": modified}


def _content_type(request: ApiRequest) -> str:
    """As the client wrote it: it is told to others who read the body."""
    content_type = request.headers.get("content-type", "").strip() or DEFAULT_CONTENT_TYPE
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise InvalidRequest("must be 1 to 200 printable characters", field="Content-Type")
    return content_type


def _declared_size(request: ApiRequest) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _part(request: ApiRequest) -> Part:
    text = request.headers.get("content-range", "").strip()
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise InvalidRequest("must be bytes=FIRST-LAST/TOTAL", field="Content-Range")
    first, last, total = map(int, found.groups())
    if not first <= last < total:
        raise InvalidRequest("is empty or ends behind the total", field="Content-Range")
    return Part(first, last + 1, total)


def _condition(request: ApiRequest) -> BodyCondition:
    """If-Match with the ETag of the body; If-None-Match: * for an object without one."""
    if_none_match = request.headers.get("if-none-match")
    if if_none_match is None:
        return BodyCondition(blob=_if_match(request))
    if "if-match" in request.headers:
        raise InvalidRequest("not together with If-None-Match", field="If-Match")
    if if_none_match.strip() != "*":
        raise InvalidRequest("only * is possible", field="If-None-Match")
    return BodyCondition(must_be_absent=True)


def _if_match(request: ApiRequest) -> str | None:
    if_match = request.headers.get("if-match", "*").strip()
    if if_match == "*":
        return None
    found = _ETAG.fullmatch(if_match)
    if found is None:
        raise InvalidRequest("is not an ETag of a body", field="If-Match")
    return found[1]


def _etags(text: str) -> set[str]:
    found = (_ETAG.fullmatch(each.strip()) for each in text.split(","))
    return {each[1] for each in found if each is not None}


def _check_range(request: ApiRequest, body: Body) -> None:
    """Raises InvalidRequest for a range that is none, or not within the body."""
    text = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if text is None or if_range not in (None, *_body_headers(body).values()):
        return
    if not _RANGES.fullmatch(text.strip()):
        raise InvalidRequest("must be bytes=FIRST-LAST", field="Range")
    for each in text.partition("=")[2].split(","):
        found = _RANGE.fullmatch(each.strip())
        if found is None:
            raise InvalidRequest("must be bytes=FIRST-LAST", field="Range")
        first, last, suffix = found.groups()
        if first and last and int(last) < int(first):
            raise InvalidRequest("ends before it begins", field="Range")
        if int(first or 0) >= body.size_bytes or suffix == "0":
            problem = f"the body has {body.size_bytes} bytes"
            raise InvalidRequest(problem, field="Range", code="RANGE_NOT_SATISFIABLE")
