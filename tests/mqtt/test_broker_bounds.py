"""Broker: bounds of time and number that no single packet shows."""

from __future__ import annotations

from mqttpush.mqtt.broker import Admitted
from mqttpush.mqtt.packets import Publish, ReasonCode, Version
from tests.mqtt.support import World, reason_of
from tests.support.loop import in_loop


@in_loop
async def test_an_onboarding_connection_has_its_time_and_is_told_when_it_is_over() -> None:
    world = World(onboarding_timeout_s=30)
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    client = await world.connect("anonymous", Version.V5)
    world.pass_time(29)
    client.send(Publish("p/anonymous/thing-if/apps/app/onboardings", b"POST"))
    assert not client.transport.is_closing
    world.pass_time(1.5)
    assert reason_of(client) == ReasonCode.MAXIMUM_CONNECT_TIME
    assert client.transport.is_closing
    assert (world.reached("onboarding_timeout_s"), world.reached("stall_timeout_s")) == (1, 0)


@in_loop
async def test_an_onboarding_connection_gains_no_time_by_not_reading_for_a_while() -> None:
    world = World(onboarding_timeout_s=30)
    world.answer = lambda _: Admitted("", "app", is_onboarding=True)
    client = await world.connect("anonymous", keep_alive_s=600)
    world.broker.pause(client.handle)
    world.pass_time(10)
    world.broker.resume(client.handle)
    world.pass_time(20.5)
    assert client.transport.is_closing
