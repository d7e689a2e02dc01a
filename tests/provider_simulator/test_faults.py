"""Faults strike the requests they are meant for, always the same ones."""

from __future__ import annotations

import pytest

from mqttpush.provider_simulator import Cut, Fault, Providers
from mqttpush.provider_simulator.faults import FaultPlan
from tests.provider_simulator.support import access_token, send_fcm


def struck(plan: FaultPlan, count: int) -> list[int]:
    """Which of so many requests for device `t` are struck, from 1."""
    return [n for n in range(1, count + 1) if plan.pick("fcm", "send", "t")]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(network="fcm"), [1]),
        (Fault(network="fcm", times=None), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (Fault(network="fcm", skip=4), [5]),
        (Fault(network="fcm", skip=1, every=3, times=2), [4, 7]),
        (Fault(network="fcm", token="t", times=3), [1, 2, 3]),
        (Fault(network="fcm", token="other"), []),
        (Fault(network="apns"), []),
        (Fault(network="fcm", place="oauth"), []),
    ],
)
def test_a_fault_strikes_by_count(fault: Fault, expected: list[int]) -> None:
    for _ in range(2):  # twice the same
        plan = FaultPlan()
        plan.add(fault, token=fault.token)
        assert struck(plan, 9) == expected


def test_of_several_faults_a_devices_own_comes_first() -> None:
    plan = FaultPlan()
    plan.add(Fault(network="fcm", code="INTERNAL", times=None))
    plan.add(Fault(network="fcm", code="UNAVAILABLE", token="t", times=2), token="t")
    codes = [fault.code for _ in range(3) if (fault := plan.pick("fcm", "send", "t"))]
    assert codes == ["UNAVAILABLE", "UNAVAILABLE", "INTERNAL"]
    assert [rule["seen_count"] for rule in plan.report()] == [3, 3]
    assert [rule["struck_count"] for rule in plan.report()] == [1, 2]


@pytest.mark.parametrize(
    "wrong", [{"every": 0}, {"skip": -1}, {"times": 0}, {"place": "nowhere"}], ids=str
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"place|skip"):
        Fault(network="fcm", **wrong)  # type: ignore[arg-type]


def test_an_unknown_code_needs_a_status(providers: Providers) -> None:
    with pytest.raises(ValueError, match="no error NONSENSE"):
        providers.add_faults(Fault(network="fcm", code="NONSENSE"))
    providers.add_faults(Fault(network="fcm", code="NONSENSE", status=418))
    bearer = access_token(providers, providers.fcm.make_service_account())
    [token] = providers.fcm.make_tokens()
    reply = send_fcm(providers, bearer, {"message": {"token": token}})
    assert reply.status == 418
    assert b"NONSENSE" in reply.body


def test_an_unknown_network_is_refused(providers: Providers) -> None:
    with pytest.raises(KeyError):
        providers.add_faults(Fault(network="pigeons"))


def test_what_is_refused_anyway_counts_for_no_fault(providers: Providers) -> None:
    bearer = access_token(providers, providers.fcm.make_service_account())
    [token] = providers.fcm.make_tokens()
    providers.add_faults(Fault(network="fcm", code="INTERNAL", skip=1))
    message = {"message": {"token": token}}
    assert send_fcm(providers, "wrong", message).status == 401
    assert [send_fcm(providers, bearer, message).status for _ in range(3)] == [200, 500, 200]
    assert providers.fcm.ledger.report()["refused"] == {"UNAUTHENTICATED": 1}


@pytest.mark.parametrize(
    ("fault", "is_taken"),
    [
        (Fault(network="fcm", status=200, body="{not json"), True),
        (Fault(network="fcm", status=302, headers={"location": "http://example.com"}), False),
        (Fault(network="fcm", code="UNAVAILABLE", retry_after=5), False),
        (Fault(network="fcm", cut=Cut.RESET_AFTER), True),
        (Fault(network="fcm", cut=Cut.RESET_BEFORE), False),
        (Fault(network="fcm", cut=Cut.REFUSED_STREAM), False),
        (Fault(network="fcm", cut=Cut.GOAWAY), True),
        (Fault(network="fcm", cut=Cut.GOAWAY_ABRUPT), False),
        (Fault(network="fcm", delay_s=1), True),
    ],
)
def test_only_what_the_network_took_is_counted(
    providers: Providers, fault: Fault, is_taken: bool
) -> None:
    bearer = access_token(providers, providers.fcm.make_service_account())
    [token] = providers.fcm.make_tokens()
    providers.add_faults(fault)
    send_fcm(providers, bearer, {"message": {"token": token}})
    assert providers.fcm.count(token) == int(is_taken)


def test_reset_forgets_pushes_deaths_and_faults_but_no_key(providers: Providers) -> None:
    bearer = access_token(providers, providers.fcm.make_service_account())
    [token] = providers.fcm.make_tokens()
    message = {"message": {"token": token}}
    send_fcm(providers, bearer, message)
    providers.fcm.kill([token])
    providers.add_faults(Fault(network="fcm", code="INTERNAL", times=None))
    providers.reset()
    assert providers.fcm.count(token) == 0
    assert send_fcm(providers, bearer, message).status == 200
