"""Every normative clause of MQTT 3.1.1 and 5.0: proven by which test, or not applicable and why.

`python -m tests.mqtt.clauses` writes the table into docs/mqtt.md; a test checks that it is current.
Proof comes from the `clause` marks of the tests and from `clauses` in tests/vectors/.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parent.parent / "docs" / "mqtt.md"
VECTORS = FOLDER.parent / "vectors" / "mqtt_packets.json"
BEGIN, END = "<!-- clauses: generated -->\n", "<!-- clauses: end -->\n"

# The highest number of each section's normative statements (appendix B of each specification).
COUNT_BY_SECTION = {
    "3.1.1": {
        "1.5.3": 3, "2.2.2": 2, "2.3.1": 7, "3.1.0": 2, "3.1.2": 24, "3.1.3": 11, "3.1.4": 5,
        "3.2.0": 1, "3.2.2": 6, "3.3.1": 12, "3.3.2": 3, "3.3.4": 1, "3.3.5": 2, "3.6.1": 1,
        "3.8.1": 1, "3.8.3": 4, "3.8.4": 6, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2, "3.10.4": 6,
        "3.12.4": 1, "3.14.1": 1, "3.14.4": 3, "4.1.0": 2, "4.3.1": 1, "4.3.2": 2, "4.3.3": 2,
        "4.4.0": 1, "4.5.0": 2, "4.6.0": 6, "4.7.1": 3, "4.7.2": 1, "4.7.3": 4, "4.8.0": 2,
        "6.0.0": 4, "7.0.0": 2, "7.1.1": 1, "7.1.2": 1,
    },
    "5.0": {
        "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2,
        "3.1.2": 33, "3.1.3": 10, "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20,
        "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1, "3.6.2": 3, "3.7.2": 3, "3.8.1": 1,
        "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2, "3.10.4": 6,
        "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4,
        "3.14.4": 3, "3.15.1": 1, "3.15.2": 2, "4.1.0": 2, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13,
        "4.4.0": 2, "4.5.0": 2, "4.6.0": 6, "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4,
        "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2, "4.13.1": 1, "4.13.2": 1, "6.0.0": 4,
        "7.0.0": 2, "7.1.1": 1, "7.1.2": 1,
    },
}  # fmt: skip
NOT_IN_THE_SPECIFICATION = {"5.0": {"MQTT-2.2.1-1"}}

CLIENT = "a client's duty"
WILL = "not offered: will messages are refused at CONNECT"
RETAIN = "not offered: retained messages are refused (v5: Retain Available 0)"
SESSION = "not offered: no session outlives its connection (v5: Session Expiry Interval 0)"
QOS_0 = "the server publishes at QoS 0 only"
FORWARD = "no message is forwarded from client to client"
OVERLAP = "a client has one subscription, so none overlap"
IDENTIFIER = "subscription identifiers are declared as not available"
ALIAS = "declared as 0: the server takes no topic alias"
WILDCARD = "no wildcard filter is granted"
SHARED = "shared subscriptions are declared as not available"
AUTH = "no enhanced authentication"
EXTRAS = (
    "never sent: only CONNACK and DISCONNECT carry a reason string, and no packet user properties"
)
BRIDGE = "the server makes no connections to other servers"
EXPIRY = "pushes have no expiry"
TWO_BYTES = "a length has two bytes, so nothing longer can be sent"

# Sections as `section: numbers`, numbers as `1-3,5`.
NOT_APPLICABLE: dict[str, list[tuple[str, str]]] = {
    "3.1.1": [
        ("2.3.1: 2-3", CLIENT), ("2.3.1: 4", QOS_0), ("3.1.2: 4-5", SESSION),
        ("3.1.2: 7", RETAIN), ("3.1.2: 8,10,12,16-17", WILL), ("3.1.2: 23", CLIENT),
        ("3.1.3: 1", WILL), ("3.1.3: 7", CLIENT), ("3.2.2: 2", SESSION), ("3.3.1: 1,3", QOS_0),
        ("3.3.1: 5-8,10-12", RETAIN), ("3.3.5: 1", OVERLAP), ("3.10.4: 3", QOS_0),
        ("3.14.4: 1-2", CLIENT), ("4.1.0: 1-2", SESSION), ("4.3.2: 1", QOS_0),
        ("4.3.3: 1", QOS_0), ("4.4.0: 1", SESSION), ("4.5.0: 1", FORWARD), ("4.5.0: 2", CLIENT),
        ("4.6.0: 1-4", CLIENT), ("4.6.0: 5-6", FORWARD), ("4.7.1: 2-3", WILDCARD),
        ("4.7.2: 1", WILDCARD), ("4.7.3: 3", TWO_BYTES),
        ("7.0.0: 1", BRIDGE), ("7.1.2: 1", CLIENT),
    ],
    "5.0": [
        ("2.2.1: 4", QOS_0), ("3.1.2: 5,25", SESSION), ("3.1.2: 7-8,10,12,16-17,26", WILL),
        ("3.1.2: 22-23", CLIENT), ("3.1.2: 33", CLIENT), ("3.1.3: 1", WILL),
        ("3.2.2: 4-5,11,15,21", CLIENT), ("3.2.2: 9-10,12", "Maximum QoS is not lowered"),
        ("3.2.2: 20", EXTRAS), ("3.3.1: 1,3", QOS_0), ("3.3.1: 5-11", RETAIN),
        ("3.3.1: 12-13", FORWARD), ("3.3.2: 4,15-18,20", FORWARD), ("3.3.2: 5-6", EXPIRY),
        ("3.3.2: 10", CLIENT), ("3.3.2: 12", ALIAS), ("3.3.4: 2", OVERLAP),
        ("3.3.4: 3-5", IDENTIFIER), ("3.3.4: 8", CLIENT), ("3.3.4: 9-10", QOS_0),
        ("3.4.2: 2-3", EXTRAS), ("3.5.2: 2-3", EXTRAS), ("3.6.2: 1-3", CLIENT),
        ("3.7.2: 2-3", EXTRAS), ("3.8.3: 3", FORWARD), ("3.8.4: 4", RETAIN), ("3.9.2: 2", EXTRAS),
        ("3.10.4: 3", QOS_0), ("3.11.2: 2", EXTRAS), ("3.14.2: 4", EXTRAS), ("3.14.4: 3", WILL),
        ("3.15.2: 1-2", AUTH), ("4.1.0: 1", SESSION), ("4.3.2: 1-3", QOS_0), ("4.3.3: 1-7", QOS_0),
        ("4.3.3: 13", EXPIRY), ("4.4.0: 1", SESSION), ("4.4.0: 2", QOS_0), ("4.5.0: 1", FORWARD),
        ("4.5.0: 2", CLIENT), ("4.6.0: 1-4", CLIENT), ("4.6.0: 5-6", FORWARD),
        ("4.7.1: 1-2", WILDCARD), ("4.7.2: 1", WILDCARD),
        ("4.7.3: 3", TWO_BYTES),
        ("4.8.2: 1-6", SHARED), ("4.9.0: 1-2", QOS_0), ("4.12.0: 2-5", AUTH), ("4.12.1: 1-2", AUTH),
        ("7.0.0: 1", BRIDGE), ("7.1.2: 1", CLIENT),
    ],
}  # fmt: skip


def all_clauses() -> list[tuple[str, str]]:
    """(version, clause) of every normative statement, in order."""
    return [
        (version, clause)
        for version, sections in COUNT_BY_SECTION.items()
        for section, count in sections.items()
        for clause in (f"MQTT-{section}-{number}" for number in range(1, count + 1))
        if clause not in NOT_IN_THE_SPECIFICATION.get(version, ())
    ]


def not_applicable() -> dict[tuple[str, str], str]:
    """Why a clause does not apply."""
    return {
        (version, f"MQTT-{section}-{number}"): reason
        for version, rows in NOT_APPLICABLE.items()
        for row, reason in rows
        for section, numbers in [row.split(": ")]
        for number in _numbers(numbers)
    }


def proofs() -> dict[tuple[str, str], list[str]]:
    """The tests that prove a clause."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for version, clause in _marks(node):
                    found[version, clause].append(f"`{node.name.removeprefix('test_')}`")
    for vector in json.loads(VECTORS.read_text(encoding="utf-8"))["refused"]:
        for mark in vector.get("clauses", ()):
            version, clause = mark.split(" ")
            found[version, clause].append(f"vector: {vector['what']}")
    return dict(found)


def table() -> str:
    """The generated part of docs/mqtt.md."""
    proven, reasons = proofs(), not_applicable()
    lines = []
    for version in COUNT_BY_SECTION:
        lines += [
            f"### MQTT {version}",
            "",
            "| clause | proven by, not applicable, or not offered |",
            "| --- | --- |",
        ]
        for key in all_clauses():
            if key[0] == version:
                tests = proven.get(key)
                reason = reasons.get(key, "?")
                if not reason.startswith("not offered"):
                    reason = f"not applicable: {reason}"
                told = "<br>".join(tests) if tests else reason
                lines.append(f"| {key[1].removeprefix('MQTT-')} | {told} |")
        lines.append("")
    return "\n".join(lines)


def with_table(document: str) -> str:
    """`document` with a current table."""
    before, rest = document.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


def _marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "clause":
            version, clause = (ast.literal_eval(argument) for argument in mark.args)
            yield version, clause


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = re.sub(r"\s", "", part).partition("-")
        yield from range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
