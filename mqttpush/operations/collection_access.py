"""Direct access of server code to collections: `collectionAccess` (spec kinvey 8.7).

No hooks, no rights, no live events; other listeners of the bucket hear of the writes. Lenient as
real scripts are: a query may be JSON text, options may be a list. Users can be read, and fields of
theirs changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from mqttpush.access import refusal
from mqttpush.errors import InvalidRequest
from mqttpush.models import Credentials, Json, Object, Source, SourceKind
from mqttpush.operations.accounts import AccountDraft, Accounts
from mqttpush.operations.context import Context, ScopeReference
from mqttpush.operations.entities import (
    ANSWER_LIMIT,
    check_name,
    delete_entity,
    insert_entity,
    make_collection,
    replace_entity,
)
from mqttpush.operations.entity_documents import draft_of, project, render, render_all
from mqttpush.operations.places import Place, enter
from mqttpush.operations.queries import EntityQuery, entity_query
from mqttpush.operations.update_operators import changed
from mqttpush.operations.user_documents import OWN_FIELDS, user_document
from mqttpush.store import Transaction
from mqttpush.store.queries import same

USERS: Final = "user"
_Method = Callable[[Credentials, str, list[Any]], Awaitable[Any]]


class CollectionAccess:
    """The methods of a collection's handle, by the names scripts know."""

    def __init__(self, context: Context, accounts: Accounts) -> None:
        self._context = context
        self._accounts = accounts
        self._methods: dict[str, _Method] = {
            "find": self._find,
            "findOne": self._find_one,
            "insert": self._insert,
            "save": self._save,
            "update": self._update,
            "remove": self._remove,
            "findAndModify": self._find_and_modify,
            "findAndRemove": self._find_and_remove,
            "distinct": self._distinct,
            "count": self._count,
            "collectionExists": self._exists,
        }

    async def ask(self, credentials: Credentials, method: str, arguments: list[Any]) -> Any:
        """credentials: the administrator's. arguments: the collection's name, then the method's.

        Raises InvalidRequest for what makes no sense; answers JSON.
        """
        call = self._methods.get(method)
        if call is None:
            raise InvalidRequest(f"collectionAccess.{method}", code="FeatureUnavailable")
        name = arguments[0] if arguments else None
        if not isinstance(name, str):
            raise InvalidRequest("must be a text", field="collection", code="InvalidIdentifier")
        check_name(name)
        return await call(credentials, name, [*arguments[1:], None, None, None, None])

    # --- reading --------------------------------------------------------------------------

    async def _find(self, credentials: Credentials, name: str, given: list[Any]) -> list[Json]:
        options = _options(given[1])
        query = _query(given[0], options)
        found = await self._read(credentials, name, query)
        fields = _fields(options.get("fields"))
        return [project(each, fields) for each in found]

    async def _find_one(self, credentials: Credentials, name: str, given: list[Any]) -> Any:
        options = {**_options(given[1]), "limit": 1}
        found = await self._find(credentials, name, [given[0], options])
        return found[0] if found else None

    async def _distinct(self, credentials: Credentials, name: str, given: list[Any]) -> list[Any]:
        values: list[Any] = []
        for entity in await self._read(credentials, name, _query(given[1], {})):
            found = _at(entity, str(given[0]).split("."))
            for value in found if isinstance(found, list) else [found]:
                if value is not None and not any(same(value, each) for each in values):
                    values.append(value)
        return values

    async def _count(self, credentials: Credentials, name: str, given: list[Any]) -> int:
        query = _query(given[0], {})
        if name == USERS:
            return await self._accounts.count(credentials, query)

        def unit(tx: Transaction) -> int:
            bucket = self._enter(tx, credentials, name).bucket
            return tx.entities.count(bucket, query) if bucket else 0

        return await self._context.store.search(unit)

    async def _exists(self, credentials: Credentials, name: str, _: list[Any]) -> bool:
        if name == USERS:
            return True
        return await self._context.store.read(
            lambda tx: self._enter(tx, credentials, name).bucket is not None
        )

    async def _read(self, credentials: Credentials, name: str, query: EntityQuery) -> list[Json]:
        if name == USERS:
            return [user_document(each) for each in await self._accounts.find(credentials, query)]

        def unit(tx: Transaction) -> list[Json]:
            place = self._enter(tx, credentials, name)
            if place.bucket is None:
                return []
            return render_all(tx, place.bucket, self._found(place, query))

        return await self._context.store.search(unit)

    # --- writing --------------------------------------------------------------------------

    async def _insert(self, credentials: Credentials, name: str, given: list[Any]) -> list[Json]:
        _refuse_users(name)
        documents = given[0] if isinstance(given[0], list) else [given[0]]

        def unit(tx: Transaction) -> list[Json]:
            place = self._enter(tx, credentials, name)
            return [self._write(place, _object(each), may_replace=False) for each in documents]

        return await self._context.store.write(unit)

    async def _save(self, credentials: Credentials, name: str, given: list[Any]) -> Json:
        document = _object(given[0])
        if name == USERS:
            return await self._change_user(credentials, document)

        def unit(tx: Transaction) -> Json:
            place = self._enter(tx, credentials, name)
            return self._write(place, document, may_replace=True)

        return await self._context.store.write(unit)

    async def _update(self, credentials: Credentials, name: str, given: list[Any]) -> int:
        options = _options(given[2])
        limit = None if options.get("multi") is True else 1
        pairs = await self._modify(credentials, name, given[0], given[1], options, limit)
        return len(pairs)

    async def _find_and_modify(self, credentials: Credentials, name: str, given: list[Any]) -> Json:
        """The document as it was, or with `new` as it is; `{}` where there is none."""
        options = {**_options(given[3]), "sort": given[1]}
        if options.get("remove") is True:
            return await self._find_and_remove(credentials, name, given) or {}
        pairs = await self._modify(credentials, name, given[0], given[2], options, 1)
        if not pairs:
            return {}
        old, new = pairs[0]
        return new if options.get("new") is True else old or {}

    async def _find_and_remove(
        self, credentials: Credentials, name: str, given: list[Any]
    ) -> Json | None:
        query = _query(given[0], {"sort": given[1], "limit": 1})
        removed = await self._delete(credentials, name, query)
        return removed[0] if removed else None

    async def _remove(self, credentials: Credentials, name: str, given: list[Any]) -> int:
        limit = {"limit": 1} if _options(given[1]).get("single") is True else {}
        return len(await self._delete(credentials, name, _query(given[0], limit)))

    async def _delete(self, credentials: Credentials, name: str, query: EntityQuery) -> list[Json]:
        _refuse_users(name)

        def unit(tx: Transaction) -> list[Json]:
            place = self._enter(tx, credentials, name)
            bucket = place.bucket
            if bucket is None:
                return []
            items = self._found(place, query)
            removed = render_all(tx, bucket, items)
            for item in items:
                delete_entity(place, bucket, item)
            return removed

        return await self._context.store.write(unit)

    async def _modify(
        self,
        credentials: Credentials,
        name: str,
        query: Any,
        change: Any,
        options: Mapping[str, Any],
        limit: int | None,
    ) -> list[tuple[Json | None, Json]]:
        """Change what matches; before and after of each. An upsert has no before."""
        wanted, change = (
            _query(query, {"limit": limit, "sort": options.get("sort")}),
            _object(change),
        )
        if name == USERS:
            users = await self._read(credentials, name, wanted)
            return [
                (old, await self._change_user(credentials, changed(old, change))) for old in users
            ]

        def unit(tx: Transaction) -> list[tuple[Json | None, Json]]:
            place = self._enter(tx, credentials, name)
            items = self._found(place, wanted)
            pairs: list[tuple[Json | None, Json]] = []
            for item in items:
                assert place.bucket is not None
                old = render(tx, place.bucket, item)
                pairs.append((old, self._replace(place, item, changed(old, change))))
            if not items and options.get("upsert") is True:
                document = changed(_equalities(query), change)
                pairs.append((None, self._write(place, document, may_replace=False)))
            return pairs

        return await self._context.store.write(unit)

    async def _change_user(self, credentials: Credentials, document: Json) -> Json:
        """His own fields only; devices and passwords have verbs of their own."""
        fields = {key: value for key, value in document.items() if key not in OWN_FIELDS}
        draft = AccountDraft(fields=fields)
        return user_document(
            await self._accounts.change(credentials, str(document.get("_id")), draft)
        )

    # --- inside a unit --------------------------------------------------------------------

    def _enter(self, tx: Transaction, credentials: Credentials, name: str) -> Place:
        place = enter(self._context, tx, credentials, ScopeReference(), name)
        if not place.principal.is_admin:
            raise refusal(place.principal, "use collections directly")
        return place

    def _found(self, place: Place, query: EntityQuery) -> list[Object]:
        if place.bucket is None:
            return []
        limit_bytes = self._context.limits.max_answer_bytes
        return place.tx.entities.find(place.bucket, query, limit_bytes=limit_bytes)

    def _write(self, place: Place, document: Json, *, may_replace: bool) -> Json:
        tx, draft = place.tx, draft_of(document)
        bucket = _bucket(place) or make_collection(self._context, place)
        existing = tx.objects.get(bucket.key, draft.entity_id) if draft.entity_id else None
        if existing is not None and may_replace:
            return self._replace(place, existing, document)
        if existing is not None:
            raise InvalidRequest("there is one already", field="_id", code="BadRequest")
        owner = place.principal.subject
        if draft.creator not in ("", place.scope.app_id):
            owner = f"user:{draft.creator}"
        item = insert_entity(self._context, place, bucket, draft, owner, is_published=False)
        return render(tx, bucket, item)

    def _replace(self, place: Place, existing: Object, document: Json) -> Json:
        bucket = _bucket(place)
        assert bucket is not None
        draft = draft_of({**document, "_id": existing.object_id})
        item = replace_entity(self._context, place, bucket, existing, draft, is_published=False)
        return render(place.tx, bucket, item)


def _bucket(place: Place) -> Source | None:
    """As of now: an earlier step of the unit may have made it."""
    kept = place.bucket
    return kept or place.tx.sources.get(SourceKind.BUCKET, place.scope, place.bucket_id)


def _refuse_users(name: str) -> None:
    if name == USERS:
        problem = "users are made and deleted by their own calls"
        raise InvalidRequest(problem, code="IndirectCollectionAccessDisallowed")


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object", field="document", code="BadRequest")
    return value


def _options(given: Any) -> Mapping[str, Any]:
    """Real scripts say `[]` where they want none."""
    return given if isinstance(given, dict) else {}


def _query(given: Any, options: Mapping[str, Any]) -> EntityQuery:
    limit, skip = _number(options.get("limit")), _number(options.get("skip"))
    return entity_query(
        _decoded(given),
        options.get("sort") or None,
        min(limit or ANSWER_LIMIT, ANSWER_LIMIT),
        skip or 0,
    )


def _decoded(query: Any) -> Any:
    """The text of a request's `query` is passed straight through."""
    if not isinstance(query, str):
        return query or {}
    try:
        return orjson.loads(query) if query.strip() else {}
    except orjson.JSONDecodeError as exc:
        problem = f"is not JSON: {exc}"
        raise InvalidRequest(problem, field="query", code="InvalidQuerySyntax") from exc


def _number(value: Any) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value < 2**31 else None


def _fields(fields: Any) -> list[str]:
    """A list of names, or an object whose true ones count."""
    if isinstance(fields, dict):
        return [str(name) for name, is_wanted in fields.items() if is_wanted]
    return [str(name) for name in fields] if isinstance(fields, list) else []


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _equalities(query: Any) -> Json:
    """What an upsert begins with: the fields that the query wants to be just so."""
    decoded = _decoded(query)
    found: Json = {}
    for name, value in decoded.items() if isinstance(decoded, dict) else ():
        has_operator = isinstance(value, dict) and any(key.startswith("$") for key in value)
        if not name.startswith("$") and not has_operator:
            found = changed(found, {"$set": {name: value}})
    return found
