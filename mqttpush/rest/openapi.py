"""OpenAPI: the route table as an OpenAPI 3.1 document.

Knows no route of its own and no request: what is documented is what is routed. Built once, when
somebody first asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter

from mqttpush.models import Json
from mqttpush.rest.routing import Content, Dialect, Route

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_POINTER: Final = re.compile(r" \(spec kii [\d., ]+\)")
_APP: Final = "/api/apps/{appID}"
_SCHEMAS: Final = "#/components/schemas/{model}"
_FIRST_ERROR: Final = 400
_DESCRIPTION: Final = (
    "Push for apps and devices: users and things, their devices, buckets and topics they subscribe"
    " to, messages. Every GET may be asked as HEAD. A POST with the header X-HTTP-Method-Override"
    " counts as that method."
)


def build_document(routes: Iterable[Route], version: str) -> Json:
    """The OpenAPI document of these routes. version: of the server."""
    routes = list(routes)
    dialects = {route.dialect.name: route.dialect for route in routes if route.dialect}
    schemas, schema_by_shape = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_by_shape)
    components: dict[str, Json] = {"schemas": schemas}
    for dialect in dialects.values():
        for section, entries in _components(dialect):
            components.setdefault(section, {}).update(entries)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mqttpush", "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": components,
    }


def make_parameter(place: str, name: str, description: str, **schema: Any) -> Json:
    """A parameter as a dialect tells it. place: `path`, `query` or `header`."""
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def operation_id(route: Route) -> str:
    """A name made of method and path, unlike every other: `putUserTopic`, `getObjectAclByVerb`."""
    inside = route.path.removeprefix(_APP)
    words = [route.method.lower()]
    for segment in filter(None, inside.split("/")):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None:
            words += re.findall(r"[a-zA-Z0-9]+", segment)
        elif words[-1].endswith("s"):
            words[-1] = words[-1].removesuffix("s")  # `users/{userID}` is one user
        else:
            words += ["by", parameter[1]]
    if not inside:
        words.append("app")
    return words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])


def _operation(route: Route, schema_by_shape: Mapping[int, Json]) -> Json:
    operation: Json = {
        "operationId": operation_id(route),
        "tags": [route.tag],
        "summary": route.summary,
        "responses": dict(_responses(route, schema_by_shape)),
    }
    names = [*_PARAMETER.findall(route.path), *route.parameters]
    if names:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    if route.body is not None:
        content = _content(route.body, schema_by_shape)
        operation["requestBody"] = {"content": content, "required": _is_required(route.body)}
    if route.dialect is not None:
        operation["security"] = list(route.dialect.security)
    return operation


def _responses(route: Route, schema_by_shape: Mapping[int, Json]) -> Iterator[tuple[str, Json]]:
    common = route.dialect.statuses if route.dialect else ()
    for status in sorted({*route.statuses, *common}):
        if status >= _FIRST_ERROR and route.dialect:
            name = _error_name(route.dialect, status)
            yield str(status), {"$ref": f"#/components/responses/{name}"}
            continue
        response: Json = {"description": HTTPStatus(status).phrase}
        if route.answer is not None and status != HTTPStatus.NO_CONTENT:
            response["content"] = _content(route.answer, schema_by_shape)
        yield str(status), response


def _components(dialect: Dialect) -> Iterator[tuple[str, Json]]:
    yield "parameters", dict(dialect.parameters)
    yield "securitySchemes", dict(dialect.security_schemes)
    errors = dialect.errors.items()
    yield "responses", {_error_name(dialect, status): error for status, error in errors}


def _error_name(dialect: Dialect, status: int) -> str:
    return f"{dialect.name}{status}"


def _content(content: Content, schema_by_shape: Mapping[int, Json]) -> Json:
    return {
        media_type: {"schema": _schema(content, media_type, schema_by_shape)}
        for media_type in content.types
    }


def _schema(content: Content, media_type: str, schema_by_shape: Mapping[int, Json]) -> Json:
    if media_type.startswith("text/"):
        return {"type": "string"}
    if content.shape is None:
        return {}
    return schema_by_shape[id(content.shape)]


def _is_required(body: Content) -> bool:
    """A body all of whose fields may be left out may be left out itself."""
    return body.shape is not None and bool(TypeAdapter(body.shape).json_schema().get("required"))


def _schemas(routes: Iterable[Route]) -> tuple[Json, dict[int, Json]]:
    """Every shape as JSON Schema: shared parts by name, and each shape's own by its identity."""
    contents = (content for route in routes for content in (route.body, route.answer) if content)
    shapes = {id(each.shape): each.shape for each in contents if each.shape is not None}
    by_key, shared = TypeAdapter.json_schemas(
        [(key, "validation", TypeAdapter[Any](shape)) for key, shape in shapes.items()],
        ref_template=_SCHEMAS,
    )
    schema_by_shape = {key: schema for (key, _), schema in by_key.items()}
    schemas: Json = _tidied(shared.get("$defs", {}))
    return schemas, schema_by_shape


def _tidied(value: Any, *, is_named: bool = False) -> Any:
    """Without pydantic's titles, which repeat names, and our pointers into the specification.

    is_named: the keys of `value` are names of fields, not words of JSON Schema.
    """
    if isinstance(value, list):
        return [_tidied(each) for each in value]
    if not isinstance(value, dict):
        return value
    tidied = {
        key: _tidied(each, is_named=not is_named and key in ("properties", "$defs"))
        for key, each in value.items()
        if is_named or key != "title" or not isinstance(each, str)
    }
    if not is_named and isinstance(tidied.get("description"), str):
        tidied["description"] = _POINTER.sub("", tidied["description"])
    return tidied
