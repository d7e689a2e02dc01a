"""Deliveries: the jobs for phones as those who send them need them, and what became of them.

Knows no network. The one idea: an audience becomes deliveries page by page, only as far as the
senders have use for, and the rights that count are those of that moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from mqttpush.access import refusal
from mqttpush.errors import NotFound
from mqttpush.events import PhonesEnded
from mqttpush.models import Credentials, Outcome
from mqttpush.networks import Ending
from mqttpush.operations.context import Context
from mqttpush.operations.uninstalling import uninstall
from mqttpush.pushes import Attempt, Page, PushJob, Queue, Trace
from mqttpush.store import Transaction

# A unit holds the store's thread: 20 pages of 500 subscribers without a phone take about 10 ms.
PAGES_PER_UNIT: Final = 20
JOBS_PER_UNIT: Final = 200


class TracePage(NamedTuple):
    """next_after: where to go on, None at the end."""

    traces: list[Trace]
    next_after: str | None


class Deliveries:
    """Jobs for phones, worked off by the senders."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def lanes(self) -> list[tuple[str, str]]:
        """(network, app ID) of all that have anything to send."""
        return await self._context.store.read(lambda tx: tx.pushes.lanes())

    async def queues(self) -> list[Queue]:
        """What waits, by network."""
        return await self._context.store.read(lambda tx: tx.pushes.queues())

    async def make_up_for_clock(self, by_ms: int) -> None:
        """The wall clock was set back by so much: what waits is due so much earlier.

        by_ms: 0 if nobody knows, as at a start; then by as much as the youngest job is ahead.
        """

        def unit(tx: Transaction) -> None:
            now_ms = self._context.now_ms()
            known_ms = by_ms or (tx.pushes.youngest_ms() or now_ms) - now_ms
            if known_ms > 0:
                tx.pushes.bring_forward(known_ms, now_ms)

        await self._context.store.write(unit)

    async def load(
        self, network: str, app_id: str, taken: frozenset[tuple[int, str]], count: int
    ) -> Page:
        """About `count` deliveries to be sent now, without those of the keys `taken`."""

        now_ms = self._context.now_ms()
        limit = count + len(taken)
        store = self._context.store

        def look(tx: Transaction) -> Page:
            found = tx.pushes.ready(network, app_id, now_ms, limit)
            fresh = [each for each in found if each.key not in taken]
            return Page(fresh, tx.pushes.next_ms(network, app_id, now_ms))

        # What only looks does not keep others from writing.
        page = await store.read(look)
        missing_count = count - len(page.deliveries)
        if missing_count <= 0:
            return page._replace(next_ms=now_ms)
        has_more = await store.write(
            lambda tx: self._expand(tx, network, app_id, missing_count, now_ms)
        )
        page = await store.read(look)
        if has_more is None:
            return page._replace(is_held_back=True)
        return page._replace(next_ms=now_ms) if has_more else page

    async def record(self, attempts: Sequence[Attempt]) -> None:
        """Write down what came of attempts, and what they say about devices."""

        def unit(tx: Transaction) -> None:
            tx.pushes.record(attempts, self._context.now_ms())
            counts = Counter(
                (each.delivery.job.message_id, each.delivery.job.network, each.ending)
                for each in attempts
                if each.ending is not None and each.delivery.job.message_id
            )
            for (message_id, network, ending), count in counts.items():
                assert ending is not None
                tx.messages.add_outcomes(message_id, [Outcome(network, ending, count)])
            for each in attempts:
                if each.is_dead:
                    _remove_device(self._context, tx, each)
                elif each.problem is not None:
                    tx.installations.set_problem(each.delivery.installation_id, each.problem)

        await self._context.store.write(unit)

    # --- what became of them --------------------------------------------------------------

    async def of_message(
        self, credentials: Credentials, message_id: str, after: str, limit: int
    ) -> TracePage:
        """What became of a message on each device; for the admin. Raises NotFound("message")."""

        def unit(tx: Transaction) -> TracePage:
            app_id = self._admins_app(tx, credentials)
            if tx.messages.get(app_id, message_id) is None:
                raise NotFound("message", message_id, app_id=app_id)
            # One more than asked for says whether there is a next page.
            traces = tx.pushes.of_message(message_id, after, limit + 1)
            last = traces[limit - 1] if len(traces) > limit else None
            next_after = f"{last.network}/{last.installation_id}" if last else None
            return TracePage(traces[:limit], next_after)

        return await self._context.store.read(unit)

    async def of_installation(
        self, credentials: Credentials, installation_id: str, limit: int
    ) -> TracePage:
        """What was last sent to a device, newest first; for the admin, even if it is gone.

        Raises NotFound("installation") if the app has neither it nor a trace of it.
        """

        def unit(tx: Transaction) -> TracePage:
            app_id = self._admins_app(tx, credentials)
            traces = tx.pushes.of_installation(app_id, installation_id, limit)
            if not traces and tx.installations.get(app_id, installation_id) is None:
                raise NotFound("installation", installation_id, app_id=app_id)
            return TracePage(traces, None)

        return await self._context.store.read(unit)

    def _admins_app(self, tx: Transaction, credentials: Credentials) -> str:
        principal = self._context.authenticate(tx, credentials)
        if not principal.is_admin:
            raise refusal(principal, "trace pushes")
        return principal.app_id

    # --- inside a unit --------------------------------------------------------------------

    def _expand(
        self, tx: Transaction, network: str, app_id: str, count: int, now_ms: int
    ) -> bool | None:
        """Make about `count` more deliveries of the app's jobs; is there more where they are from?

        None: not now, too many of its devices wait to be tried again. What is to be sent to a
        network that does not take it stays in its jobs.
        """
        settings = self._context.delivery
        room = settings.max_open_deliveries
        if tx.pushes.open_count(network, app_id, room) >= room:
            return None
        pages = 0
        for job in tx.pushes.waiting_jobs(network, app_id, now_ms, JOBS_PER_UNIT):
            is_done = False
            while not is_done:
                if count <= 0 or pages >= PAGES_PER_UNIT:
                    return True
                is_done, made_count = self._expand_page(tx, job, now_ms)
                count -= made_count
                # A job for one owner is a row to look up, not a page.
                pages += 0 if is_done and made_count <= 1 else 1
        return bool(tx.pushes.waiting_jobs(network, app_id, now_ms, 1))

    def _expand_page(self, tx: Transaction, job: PushJob, now_ms: int) -> tuple[bool, int]:
        made, reached, is_done = tx.pushes.expand(job, self._context.delivery.page_size, now_ms)
        if reached:
            outcome = Outcome(job.network, Ending.SENT_OVER_MQTT.value, reached)
            tx.messages.add_outcomes(job.message_id, [outcome])
            tx.emit(PhonesEnded(*outcome))
        return is_done, made


def _remove_device(context: Context, tx: Transaction, attempt: Attempt) -> None:
    """The device is gone, for all its owners, unless it registered again since it was dead."""
    delivery = attempt.delivery
    installation = tx.installations.get(delivery.job.app_id, delivery.installation_id)
    if installation is None or installation.registration_id != delivery.token:
        return
    for each in tx.installations.list_by_registration(
        installation.owner.app_id, installation.device_type, installation.registration_id
    ):
        # Registered in the future: the clock was set back, so it was before the attempt.
        is_earlier = each.updated_ms > context.now_ms()
        dead_since_ms = attempt.dead_since_ms
        if dead_since_ms is None or each.updated_ms <= dead_since_ms or is_earlier:
            uninstall(context, tx, each, may_be_refused=False)
