"""Regular expressions of strangers: compiled only where that costs next to nothing.

Owns what such an expression may ask for. `regex` writes a counted repeat out as copies, so that
`((a{1000}){1000}){1000}` takes 270 GB, and lets one call itself on a stack of its own. So a pattern
is weighed before it is compiled. The time to search has a limit of its own, see `query_sql`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import regex

PATTERN_LIMIT: Final = 1000  # characters
# About 270 bytes each while it compiles, and 7 us: 5000 are 1.4 MB and 35 ms.
WEIGHT_LIMIT: Final = 5000
_OPTIONS: Final = {
    "i": regex.IGNORECASE,
    "m": regex.MULTILINE,
    "s": regex.DOTALL,
    "x": regex.VERBOSE,
}
_COUNT: Final = re.compile(r"\{([0-9]+)")
_VERBOSE: Final = re.compile(r"\(\?[A-Za-z0-9-]*x")
_CALL: Final = re.compile(r"\(\s*\?\s*(?:R|&|[+-]?\s*[0-9]|P\s*[>&])")
# What may end a group, or be a repeat itself; an escaped `\)` is taken for one as well.
_MAY_END_A_GROUP: Final = frozenset(")}*+?")


def compile_pattern(pattern: object, options: object) -> tuple[Any, int]:
    """The expression, and its weight. Raises ValueError, which says what is wrong."""
    if not isinstance(pattern, str) or len(pattern) > PATTERN_LIMIT:
        raise ValueError(f"takes a text of at most {PATTERN_LIMIT} characters")
    if not isinstance(options, str) or not set(options) <= set(_OPTIONS):
        raise ValueError("has the options i, m, s and x")
    weight = _weight(pattern, is_verbose="x" in options or bool(_VERBOSE.search(pattern)))
    if weight > WEIGHT_LIMIT:
        raise ValueError("repeats too much")
    flags = 0
    for option in options:
        flags |= _OPTIONS[option]
    try:
        return regex.compile(pattern, flags, cache_pattern=False), weight
    except (regex.error, OverflowError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def _weight(pattern: str, *, is_verbose: bool) -> int:
    """No less than the characters there are when all least counts are written out.

    What is repeated is one character, a set, or else taken for all that stands there.
    """
    if _CALL.search(pattern):
        raise ValueError("may not call itself")
    if is_verbose:  # space may stand anywhere, in a number too
        pattern = "".join(pattern.split())
        if "#" in pattern and _COUNT.search(pattern):
            raise ValueError("has both comments and counts")
    own, times = len(pattern), 1
    for found in _COUNT.finditer(pattern):
        count, before = int(found[1]), pattern[found.start() - 1 : found.start()]
        if before == "]":
            own += count * len(pattern)
        elif before in _MAY_END_A_GROUP or before.isspace() or not before:
            times *= max(1, count)
        else:
            own += count
    return own * times
