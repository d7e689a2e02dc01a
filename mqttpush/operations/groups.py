"""Verbs of groups: make, rename, hand over, members (spec kii 1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mqttpush.access import owns_scope, refusal
from mqttpush.errors import InvalidRequest, LimitReached, NotFound
from mqttpush.events import SourceRemoved
from mqttpush.models import Credentials, Group, Principal, PrincipalKind
from mqttpush.operations.context import Context, Reference, resolve_user
from mqttpush.operations.hearing import rehear_owners
from mqttpush.operations.phones import before_scopes_end
from mqttpush.operations.triggers import MEMBERS_REMOVED, react_to_group
from mqttpush.store import Transaction


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A group as asked for. owner: None for the caller. group_id: None for one of ours."""

    name: str
    owner: Reference | None = None
    members: Sequence[str] = ()
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedGroup:
    """A new group, and the named members who do not exist."""

    group: Group
    not_found_user_ids: list[str]


class Groups:
    """Members and owner act in the group's scope."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, credentials: Credentials, draft: GroupDraft) -> CreatedGroup:
        """A user makes a group for himself or another one, the admin for anybody.

        Raises AlreadyExists for a taken ID, NotAuthorized, NotFound for an unknown owner.
        """
        context = self._context

        def unit(tx: Transaction) -> CreatedGroup:
            principal = context.authenticate(tx, credentials)
            owner_id = _owner_of_draft(tx, principal, draft)
            now_ms = context.now_ms()
            group_id = draft.group_id or context.secrets.group_id()
            group = Group(principal.app_id, group_id, draft.name, owner_id, now_ms, now_ms)
            tx.groups.insert(group)
            react_to_group(context, tx, group, "GROUP_CREATED")
            tx.groups.add_member(group.app_id, group_id, owner_id)
            not_found = []
            for user_id in draft.members:
                if tx.users.get(group.app_id, user_id) is None:
                    not_found.append(user_id)
                else:
                    self._add(tx, group, user_id)
            return CreatedGroup(group, not_found)

        return await context.store.write(unit)

    async def get(self, credentials: Credentials, group_id: str) -> Group:
        """For members and the admin."""

        def unit(tx: Transaction) -> Group:
            return self._enter(tx, credentials, group_id, must_rule=False)[1]

        return await self._context.store.read(unit)

    async def list_of(
        self, credentials: Credentials, user: Reference, *, only_owned: bool
    ) -> list[Group]:
        """Groups that a user is in, or owns; to other users those that they are in too."""

        def unit(tx: Transaction) -> list[Group]:
            principal = self._context.authenticate(tx, credentials)
            owner = resolve_user(tx, principal, user)
            table = tx.groups
            list_ = table.list_of_owner if only_owned else table.list_of_member
            found = list_(owner.app_id, owner.id)
            if principal.is_admin or principal.owner == owner:
                return found
            if principal.kind is not PrincipalKind.USER:
                raise refusal(principal, "list the groups of someone else")
            own = {group.group_id for group in table.list_of_member(owner.app_id, principal.id)}
            return [group for group in found if group.group_id in own]

        return await self._context.store.read(unit)

    async def members(self, credentials: Credentials, group_id: str) -> list[str]:
        """User IDs; for members and the admin."""

        def unit(tx: Transaction) -> list[str]:
            _, group = self._enter(tx, credentials, group_id, must_rule=False)
            return tx.groups.members(group.app_id, group.group_id)

        return await self._context.store.read(unit)

    async def check_member(self, credentials: Credentials, group_id: str, user: Reference) -> None:
        """Raises NotFound("member") unless the user is in the group."""

        def unit(tx: Transaction) -> None:
            principal, group = self._enter(tx, credentials, group_id, must_rule=False)
            owner = resolve_user(tx, principal, user)
            if not tx.groups.is_member(group.app_id, group.group_id, owner.id):
                raise NotFound("member", owner.id, app_id=group.app_id)

        await self._context.store.read(unit)

    async def add_member(self, credentials: Credentials, group_id: str, user: Reference) -> None:
        """For the group's owner and the admin; adding a member again changes nothing."""

        def unit(tx: Transaction) -> None:
            principal, group = self._enter(tx, credentials, group_id, must_rule=True)
            self._add(tx, group, resolve_user(tx, principal, user).id)

        await self._context.store.write(unit)

    async def remove_member(self, credentials: Credentials, group_id: str, user: Reference) -> None:
        """For the group's owner, the admin, and the member himself; the owner cannot leave."""

        def unit(tx: Transaction) -> None:
            principal, group = self._enter(tx, credentials, group_id, must_rule=False)
            member = resolve_user(tx, principal, user)
            if principal.owner != member:
                _require_rule(principal, group)
            if member.id == group.owner_user_id:
                raise InvalidRequest("the owner cannot leave the group", field="userID")
            if not tx.groups.remove_member(group.app_id, group_id, member.id):
                raise NotFound("member", member.id, app_id=group.app_id)
            react_to_group(self._context, tx, group, MEMBERS_REMOVED, [member.id])
            rehear_owners(tx, group.app_id, [member.subject])

        await self._context.store.write(unit)

    async def change(
        self,
        credentials: Credentials,
        group_id: str,
        *,
        name: str | None = None,
        owner: Reference | None = None,
    ) -> None:
        """Rename the group, or hand it to another user, who becomes a member."""

        def unit(tx: Transaction) -> None:
            principal, group = self._enter(tx, credentials, group_id, must_rule=True)
            owner_id = group.owner_user_id
            if owner is not None:
                owner_id = resolve_user(tx, principal, owner).id
                self._add(tx, group, owner_id)
            now_ms = self._context.now_ms()
            tx.groups.update(
                replace(group, name=name or group.name, owner_user_id=owner_id, modified_ms=now_ms)
            )

        await self._context.store.write(unit)

    async def delete(self, credentials: Credentials, group_id: str) -> None:
        """Delete the group with its scope and the rights it gave; for its owner and the admin."""

        def unit(tx: Transaction) -> None:
            _, group = self._enter(tx, credentials, group_id, must_rule=True)
            before_scopes_end(self._context, tx, [group.scope])
            delete_group(self._context, tx, group)

        await self._context.store.write(unit)

    def _enter(
        self, tx: Transaction, credentials: Credentials, group_id: str, *, must_rule: bool
    ) -> tuple[Principal, Group]:
        principal = self._context.authenticate(tx, credentials)
        if principal.is_anonymous:
            raise refusal(principal, "use groups")
        group = tx.groups.get(principal.app_id, group_id)
        if group is None:
            raise NotFound("group", group_id, app_id=principal.app_id)
        if not (principal.is_admin or owns_scope(tx, principal, group.scope)):
            raise refusal(principal, "use the group")
        if must_rule:
            _require_rule(principal, group)
        return principal, group

    def _add(self, tx: Transaction, group: Group, user_id: str) -> None:
        members = tx.groups.members(group.app_id, group.group_id)
        if user_id in members:
            return
        if len(members) >= self._context.limits.max_group_members:
            raise LimitReached("limits.max_group_members")
        tx.groups.add_member(group.app_id, group.group_id, user_id)
        react_to_group(self._context, tx, group, "GROUP_MEMBERS_ADDED", [user_id])
        rehear_owners(tx, group.app_id, [f"user:{user_id}"])


def delete_group(context: Context, tx: Transaction, group: Group) -> None:
    """Take the group and all it stands for out of the app, inside a unit.

    After `before_scopes_end`: looking up who is to get what waits for several at once is cheaper.
    """
    scope = group.scope
    members = [f"user:{user_id}" for user_id in tx.groups.members(group.app_id, group.group_id)]
    for source_key in tx.sources.keys_of_scope(scope):
        tx.emit(SourceRemoved(source_key))
    tx.sources.delete_scope(scope)
    for thing_id in tx.things.owned_by(group.app_id, group.subject):
        tx.things.remove_owner(group.app_id, thing_id, group.subject)
    tx.acl.delete_subject(group.app_id, group.subject)
    tx.acl.delete_resource(group.app_id, scope.path.rstrip("/"))
    tx.groups.delete(group.app_id, group.group_id)
    react_to_group(context, tx, group, "GROUP_DELETED")
    rehear_owners(tx, group.app_id, members)


def _owner_of_draft(tx: Transaction, principal: Principal, draft: GroupDraft) -> str:
    if draft.owner is None:
        if principal.kind is not PrincipalKind.USER:
            raise InvalidRequest("is required", field="owner")
        return principal.id
    if not (principal.is_admin or principal.kind is PrincipalKind.USER):
        raise refusal(principal, "make a group")
    return resolve_user(tx, principal, draft.owner).id


def _require_rule(principal: Principal, group: Group) -> None:
    is_owner = principal.kind is PrincipalKind.USER and principal.id == group.owner_user_id
    if not (principal.is_admin or is_owner):
        raise refusal(principal, "change the group")
