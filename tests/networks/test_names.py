"""Names that take long to resolve: threads of their own, few of them, and nobody waits for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter

import pytest

from mqttpush.networks.addresses import Addresses, AddressUnknown
from mqttpush.networks.names import Names, ask_system
from tests.networks.support import Clock
from tests.support.loop import in_loop

THREADS = 2


class SlowOwners:
    """A resolver whose names are answered when the test says so; but `quick` at once."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: Counter[str] = Counter()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked[host] += 1
        if not host.startswith("quick"):
            assert self.answers.wait(60)
        if host.startswith("unknown"):
            raise OSError("nobody is called so")
        return ["8.8.8.8"]


def addresses(names: Names, timeout_s: float) -> Addresses:
    return Addresses(resolve=names.find, timeout_s=timeout_s, clock=Clock())


@in_loop
async def test_slow_names_take_their_own_threads_and_no_others() -> None:
    owners = SlowOwners()
    before = threading.enumerate()
    found = addresses(Names(ask=owners, threads=THREADS), timeout_s=0.3)
    hosts = [f"slow{number}.example" for number in range(10)]
    sent = await asyncio.gather(*map(found.find, hosts), return_exceptions=True)
    assert {type(each) for each in sent} == {AddressUnknown}
    assert owners.asked.total() == THREADS
    new = {each.name for each in threading.enumerate() if each not in before}
    assert new == {"names"}  # and none of the loop's executor
    again = await asyncio.gather(*map(found.find, hosts[:THREADS]), return_exceptions=True)
    assert {type(each) for each in again} == {AddressUnknown}
    assert owners.asked.total() == THREADS  # those are asked for still
    owners.answers.set()
    patient = addresses(Names(ask=owners, threads=THREADS), timeout_s=60)
    assert await asyncio.gather(*map(patient.find, hosts)) == ["8.8.8.8"] * len(hosts)


@in_loop
async def test_a_thread_that_is_done_serves_whoever_waits() -> None:
    owners = SlowOwners()
    names = Names(ask=owners, threads=1)
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(names.find("slow.example", 443))
        await asyncio.sleep(0)
        both = [group.create_task(names.find("quick.example", 443)) for _ in range(2)]
        given_up = group.create_task(names.find("slow.example", 443))
        await asyncio.sleep(0)
        given_up.cancel()
        owners.answers.set()
    assert [await task for task in (slow, *both)] == [["8.8.8.8"]] * 3
    assert owners.asked["slow.example"] == 1


@in_loop
async def test_an_unknown_name_costs_no_thread() -> None:
    owners = SlowOwners()
    owners.answers.set()
    found = addresses(Names(ask=owners, threads=1), timeout_s=60)
    for _ in range(3):
        with pytest.raises(AddressUnknown, match="nobody is called so"):
            await found.find("unknown.example")
    assert await found.find("quick.example") == "8.8.8.8"


@in_loop
async def test_the_system_s_resolver_is_asked() -> None:
    assert await Names(ask=ask_system).find("127.0.0.1", 443) == ["127.0.0.1"]


STUCK = """
import asyncio, threading
from mqttpush.networks.names import Names

async def main():
    names = Names(ask=lambda host, port: threading.Event().wait())
    try:
        async with asyncio.timeout(0.1):
            await names.find("slow.example", 443)
    except TimeoutError:
        print("gave up")

asyncio.run(main())
"""


def test_the_end_of_the_process_waits_for_no_name() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "gave up\n", "")
