"""Lane: what goes over one network, app by app in turn.

Owns the places among the pushes under way, whose turn it is, and who is to be left alone for how
long. Knows no answer's meaning and no SQL. The one idea: an app has a small stock of deliveries in
memory, refilled from the store while it is used up; the apps with a stock take turns delivery by
delivery, so one with 100,000 waiting holds up another's only push by one place.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable
from math import inf

from mqttpush.config import DeliverySettings
from mqttpush.delivery import Cancellable, Clock, Jobs, Keyring
from mqttpush.delivery.attempts import Attempter
from mqttpush.delivery.patience import Backoff, Pacer, Patience
from mqttpush.delivery.recorder import Recorder, pause
from mqttpush.errors import MqttPushError, SealBroken
from mqttpush.networks import Ending, Keys, Sent
from mqttpush.networks.services import service_of
from mqttpush.pushes import Attempt, Delivery

_log = logging.getLogger(__name__)

# A store that does not answer is asked again after this.
STORE_RETRY_S = 1.0
# However long an app waits: clocks are set, and what is due late fills the memory meanwhile.
LONGEST_SLEEP_S = 60.0
# Whoever registers browsers can name as many as are allowed.
MOST_SERVICES = 1000


class _App:
    """What one app has to send over the network."""

    __slots__ = (
        "app_id",
        "due_s",
        "ended_count",
        "has_keys",
        "has_more",
        "held_at",
        "in_turn",
        "is_loading",
        "keys",
        "keys_changes",
        "keys_lock",
        "patience",
        "services",
        "stock",
        "taken",
        "unreadable",
    )

    def __init__(self, app_id: str, patience: Patience) -> None:
        self.app_id = app_id
        self.patience = patience
        self.services: dict[str, Patience] = {}  # of a network that has several; which failed
        self.stock: deque[Delivery] = deque()
        self.taken: set[tuple[int, str]] = set()  # in stock, or not yet recorded
        self.in_turn = False
        self.is_loading = False
        self.has_more = False
        self.ended_count = 0
        self.held_at: int | None = None  # more follows once `ended_count` is above
        self.due_s = inf  # when to look into the store
        self.keys: Keys | None = None
        self.has_keys = False  # `keys` is what the app has
        self.keys_changes = 0
        self.unreadable = False
        self.keys_lock = asyncio.Lock()


_Work = tuple[_App, Delivery]


class Lane:
    """One network. start_task: gives a coroutine to the owner of all tasks."""

    def __init__(
        self,
        *,
        name: str,
        attempter: Attempter,
        jobs: Jobs,
        keyring: Keyring,
        recorder: Recorder,
        settings: DeliverySettings,
        backoff: Backoff,
        pacer: Pacer,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        self.name = name
        self._attempter = attempter
        self._jobs = jobs
        self._keyring = keyring
        self._recorder = recorder
        self._settings = settings
        self._backoff = backoff
        self._pacer = pacer
        self._pace_timer: Cancellable | None = None
        self._clock = clock
        self._now_ms = now_ms
        self._apps: dict[str, _App] = {}
        self._turns: deque[_App] = deque()
        self._due: list[tuple[float, int, _App]] = []
        self._serials = itertools.count()
        self._timer: Cancellable | None = None
        self._timer_s = inf
        self._wake = asyncio.Event()
        self._idle: list[asyncio.Future[_Work]] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._worker_count = 0
        self._is_stopping = False
        self._drained = asyncio.Event()
        self.in_flight = 0

    @property
    def is_active(self) -> bool:
        return bool(self._apps)

    @property
    def is_paused(self) -> bool:
        """It only fails for an app: it is left alone."""
        now_s = self._clock.time()
        return any(
            patience.is_open(now_s)
            for app in self._apps.values()
            for patience in (app.patience, *app.services.values())
        )

    def notice(self, app_id: str, ready_ms: int) -> None:
        """The app has something to send from then on."""
        app = self._apps.get(app_id)
        if app is None:
            app = self._apps[app_id] = _App(app_id, self._new_patience())
        wait_s = max(0, ready_ms - self._now_ms()) / 1000
        self._look_at(app, self._clock.time() + wait_s)

    def forget_keys(self, app_id: str) -> None:
        """They have changed."""
        app = self._apps.get(app_id)
        if app is not None:
            app.has_keys = False
            app.keys_changes += 1

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for app in self._due_apps():
                    await self._serve(app)
                self._arm()

    async def stop(self) -> None:
        """Begin no more pushes; returns when those under way are recorded."""
        self._is_stopping = True
        if self.in_flight:
            await self._drained.wait()

    # --- looking into the store -----------------------------------------------------------

    def _look_at(self, app: _App, due_s: float) -> None:
        due_s = min(due_s, self._clock.time() + LONGEST_SLEEP_S)
        if due_s < app.due_s:
            app.due_s = due_s
            heapq.heappush(self._due, (due_s, next(self._serials), app))
            self._arm()

    def _arm(self) -> None:
        """Wake up when the next app is due."""
        if not self._due:
            return
        due_s = self._due[0][0]
        if due_s <= self._clock.time():
            self._wake.set()
        elif due_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = due_s
            self._timer = self._clock.call_at(due_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_s = None, inf
        self._wake.set()

    def _due_apps(self) -> list[_App]:
        now_s = self._clock.time()
        found = []
        while self._due and self._due[0][0] <= now_s:
            due_s, _, app = heapq.heappop(self._due)
            if due_s == app.due_s:  # else it was to be looked at earlier, and has been
                app.due_s = inf
                found.append(app)
        return found

    async def _serve(self, app: _App) -> None:
        now_s = self._clock.time()
        if app.patience.free_s > now_s:
            self._look_at(app, app.patience.free_s)
            return
        if len(app.stock) < self._settings.page_size // 2 and not self._is_stopping:
            await self._refill(app)
        self._queue_up(app)
        self._drop_if_done(app)

    def _queue_up(self, app: _App) -> None:
        if app.stock and not app.in_turn:
            app.in_turn = True
            self._turns.append(app)
        self._hand_out()

    async def _refill(self, app: _App) -> None:
        count = self._settings.page_size
        app.is_loading = True
        ended_count = app.ended_count
        try:
            page = await self._jobs.load(self.name, app.app_id, frozenset(app.taken), count)
        except MqttPushError as exc:
            _log.warning("pushes of app %s wait for the store: %s", app.app_id, exc)
            self._look_at(app, self._clock.time() + STORE_RETRY_S)
            return
        except Exception:  # one app's rows must not end the server
            _log.exception("pushes of app %s cannot be looked up", app.app_id)
            self._look_at(app, self._clock.time() + STORE_RETRY_S)
            return
        finally:
            app.is_loading = False
        for delivery in page.deliveries:
            if delivery.key not in app.taken:
                app.taken.add(delivery.key)
                app.stock.append(delivery)
        app.held_at = ended_count if page.is_held_back else None
        wait_ms = None if page.next_ms is None else page.next_ms - self._now_ms()
        app.has_more = wait_ms is not None and wait_ms <= 0
        if app.has_more and not app.stock:
            self._look_at(app, self._clock.time())
        elif wait_ms is not None and wait_ms > 0:
            self._look_at(app, self._clock.time() + wait_ms / 1000)
        self._go_on_if_held(app)

    def _go_on_if_held(self, app: _App) -> None:
        """Something has its ending, which makes room for others."""
        if app.held_at is not None and app.ended_count > app.held_at and not app.stock:
            app.held_at = None
            self._look_at(app, self._clock.time())

    def _drop_if_done(self, app: _App) -> None:
        is_used = app.stock or app.taken or app.has_more or app.is_loading
        if is_used or app.due_s < inf:
            return
        free_s = max(each.free_s for each in (app.patience, *app.services.values()))
        if free_s > self._clock.time():  # a pause holds for what comes next, too
            self._look_at(app, free_s)
        else:
            self._apps.pop(app.app_id, None)

    # --- turns and places -----------------------------------------------------------------

    def _take(self) -> _Work | None:
        """The next delivery of the app whose turn it is, if a push may begin now."""
        now_s = self._clock.time()
        if self._is_stopping:
            return None
        if self._turns and (wait_s := self._pacer.take()):
            self._hand_out_at(now_s + wait_s)
            return None
        while self._turns:
            app = self._turns.popleft()
            if app.patience.wait_s(now_s):
                app.in_turn = False  # until then, or until its trial is recorded
                if not app.patience.is_trying:
                    self._look_at(app, app.patience.free_s)
                continue
            delivery = app.stock.popleft()
            app.in_turn = bool(app.stock)
            if app.in_turn:
                self._turns.append(app)
            if app.has_more and len(app.stock) < self._settings.page_size // 2:
                app.has_more = False
                self._look_at(app, now_s)
            self.in_flight += 1
            app.patience.under_way += 1
            return app, delivery
        return None

    def _hand_out_at(self, when_s: float) -> None:
        if self._pace_timer is None:
            self._pace_timer = self._clock.call_at(when_s, self._hand_out)

    def _hand_out(self) -> None:
        """Give work to idle workers, or to new ones while there are places."""
        if self._pace_timer is not None:
            self._pace_timer.cancel()
            self._pace_timer = None
        while self._idle or self._worker_count < self._settings.concurrency:
            work = self._take()
            if work is None:
                return
            if self._idle:
                self._idle.pop().set_result(work)
            else:
                assert self._tasks is not None
                self._worker_count += 1
                self._tasks.create_task(self._work(work), name=f"{self.name} sender")

    async def _work(self, work: _Work) -> None:
        """One place. It is free again when what came of its push is durable."""
        while True:
            app, delivery = work
            attempt = await self._attempt(app, delivery)
            await self._recorder.record(attempt)
            self._recorded(app, attempt)
            next_work = self._take()
            if next_work is None:
                waiting: asyncio.Future[_Work] = asyncio.get_running_loop().create_future()
                self._idle.append(waiting)
                next_work = await waiting
            work = next_work

    def _recorded(self, app: _App, attempt: Attempt) -> None:
        self.in_flight -= 1
        app.patience.under_way -= 1
        app.taken.discard(attempt.delivery.key)
        if attempt.ending is None:
            wait_s = max(0, attempt.ready_ms - self._now_ms()) / 1000
            self._look_at(app, self._clock.time() + wait_s)
        else:
            app.ended_count += 1
            self._go_on_if_held(app)
            self._drop_if_done(app)
        if app.stock and not app.in_turn:
            self._queue_up(app)
        if self._is_stopping and self.in_flight == 0:
            self._drained.set()

    # --- one push -------------------------------------------------------------------------

    async def _attempt(self, app: _App, delivery: Delivery) -> Attempt:
        settled = self._attempter.settled(delivery)
        if settled is not None:
            return settled
        service = service_of(self.name, delivery.token)
        patience = app.services.get(service) if service else None
        if patience is not None and (wait_s := patience.wait_s(self._clock.time())):
            return self._attempter.put_off(delivery, wait_s)
        keys = app.keys if app.has_keys else await self._load_keys(app)
        if keys is None:
            ending = Ending.CREDENTIALS_REFUSED if app.unreadable else Ending.NOT_CONFIGURED
            return self._attempter.without_keys(delivery, ending)
        began_s = self._clock.time()
        if patience is not None:
            patience.under_way += 1
        try:
            attempt, sent = await self._attempter.send(keys, delivery)
        finally:
            if patience is not None:
                patience.under_way -= 1
        self._heed(app, service, sent, began_s)
        return attempt

    async def _load_keys(self, app: _App) -> Keys | None:
        async with app.keys_lock:
            while not app.has_keys:
                changes = app.keys_changes
                try:
                    app.keys = await self._keyring.keys(app.app_id, self.name)
                    app.unreadable = False
                except SealBroken as exc:
                    _log.warning("keys of app %s for %s: %s", app.app_id, self.name, exc)
                    app.keys, app.unreadable = None, True
                except MqttPushError as exc:
                    _log.warning("keys of app %s wait for the store: %s", app.app_id, exc)
                    await pause(self._clock, STORE_RETRY_S)
                    continue
                except Exception:  # must not take the places of other apps
                    _log.exception("keys of app %s for %s", app.app_id, self.name)
                    app.keys, app.unreadable = None, True
                app.has_keys = changes == app.keys_changes  # else they are others by now
            return app.keys

    def _heed(self, app: _App, service: str, sent: Sent, began_s: float) -> None:
        """Slow down where the network asks for it, stop where it only fails."""
        patience = app.patience
        if service:
            if sent.ending is not None:
                app.services.pop(service, None)
                return
            if len(app.services) >= MOST_SERVICES:
                app.services.pop(next(iter(app.services)))
            patience = app.services.setdefault(service, self._new_patience())
        now_s = self._clock.time()
        if patience.heed(sent, now_s, began_s):
            _log.warning(
                "%s %s only fails for app %s (%s): no pushes for %.1f s",
                *(self.name, service, app.app_id, sent.code, patience.free_s - now_s),
            )

    def _new_patience(self) -> Patience:
        failures = self._settings.failures_to_pause
        return Patience(backoff=self._backoff, failures_to_open=failures)
