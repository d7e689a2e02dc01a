"""Everything that runs server code, built on one context.

Knows no business. The one idea: the server, the command line and tests build it the same way, and
differ only in how a request of running code reaches the REST API.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from mqttpush.config import EmailSettings
from mqttpush.hooks import Language, Runner
from mqttpush.hooks.engine import Engine, lines_of
from mqttpush.hooks.flex import FlexRunner
from mqttpush.hooks.javascript.runner import JavaScriptRunner
from mqttpush.hooks.python import PythonRunner
from mqttpush.hooks.threads import Threads
from mqttpush.metrics import Metrics
from mqttpush.operations import Operations
from mqttpush.operations.business_logic import BusinessLogic
from mqttpush.operations.code_runs import CodeRuns, HookLog
from mqttpush.operations.context import Context
from mqttpush.operations.hook_host import CallApi, HookHost


@dataclass(frozen=True, slots=True)
class Running:
    """What runs code, and for whom."""

    engine: Engine
    host: HookHost
    business_logic: BusinessLogic
    runs: CodeRuns
    log: HookLog

    @staticmethod
    def over(
        context: Context,
        operations: Operations,
        *,
        email: EmailSettings,
        metrics: Metrics,
        call_api: CallApi,
        base_url: Callable[[], str],
    ) -> Running:
        """call_api: a REST request of running code, inside this process. base_url: of the API."""
        settings = context.hooks
        log = HookLog(context, metrics=metrics, clock=time.monotonic)
        runners: dict[Language, Runner] = {
            Language.PYTHON: PythonRunner(
                settings, threads=Threads(limit=8 * settings.max_runs_per_app)
            ),
            Language.FLEX: FlexRunner(settings, clock=time.monotonic),
            Language.JAVASCRIPT: JavaScriptRunner(
                settings,
                on_late_log=lambda code, call, said: log.add(
                    lines_of(call, code.function, said, context.now_ms())
                ),
            ),
        }
        engine = Engine(
            runners=runners,
            settings=settings,
            metrics=metrics,
            now_ms=context.now_ms,
            on_log=log.add,
        )
        host = HookHost(context, operations, email=email, call_api=call_api)
        business_logic = BusinessLogic(
            context,
            engine=engine,
            host=host,
            base_url=lambda: settings.service_base_url or base_url(),
        )
        runs = CodeRuns(
            context,
            operations.server_code,
            engine=engine,
            host=host,
            business_logic=business_logic,
            source=random.SystemRandom(),
        )
        metrics.hook_runs_under_way.read = lambda: runs.under_way_count
        return Running(engine, host, business_logic, runs, log)
