"""Values that an entity may have, for tests of tables."""

from __future__ import annotations

from hypothesis import strategies as st

TRICKY = ["", "null", "true", "007", "7", "1e3", '"', '""', '"a"', "[1]", "{}", " 1", "-", "[", "1e999", "a\r\nb"]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(TRICKY)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
