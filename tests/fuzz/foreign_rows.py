"""Rows as a stranger would write them: any text, and what is known to hurt."""

from __future__ import annotations

import json
from datetime import datetime

from hypothesis import strategies as st

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**70)
    | st.floats()
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
rules = st.one_of(
    st.just({"==": [{"var": "type"}, "mail"]}),
    st.builds(
        lambda name, value: {name: value}, st.sampled_from(["==", "cat", "map", "x"]), json_values
    ),
    json_values,
)
documents = st.builds(
    lambda value, rule, meta: json.dumps(
        {
            **value,
            **({} if rule is None else {"__rules": rule}),
            **({} if meta is None else {"__meta": meta}),
        }
    ),
    st.dictionaries(st.text(max_size=8), json_values, max_size=3),
    st.none() | rules | st.lists(rules, max_size=3) | st.just([{"==": [1, 1]}] * 40),
    st.none() | json_values,
)
payloads = st.one_of(
    documents,
    json_values.map(json.dumps),
    st.sampled_from(
        [
            "",
            "{",
            "{}",
            '{"a":1,"a":2}',
            '{"a": 1e400}',
            '{"n": ' + "9" * 5000 + "}",
            "NaN",
            "nul",
            '{"a": ' + "[" * 3000 + "]" * 3000 + "}",
            '{"__rules": ' + '{"!": ' * 70 + "1" + "}" * 71,
            '{"a": "\\ud800"}',
            '{"__rules": {"==": ["\\ud800", 1]}}',
            '{"__rules": null}',
            '{"a": "' + "x" * 300_000 + '"}',
            '{"__meta": {"idempotency_key": "k"}}',
            "\ufeff{}",
        ]
    ),
    st.text(max_size=20),
)
types = st.one_of(
    st.just("mail"),
    st.sampled_from(
        [
            "MAIL",
            " ",
            "a.b",
            "x" * 120,
            "é\U0001f600",
            "'; DROP TABLE action_logs; --",
            "%s",
            ":type",
            "{actions}",
            "\\",
            "\u202e",
            "\x7f",
            "null",
            '"',
            "x" * 121,
            "",
        ]
    ),
    st.text(min_size=1, max_size=120),
)
times = st.one_of(
    st.datetimes(datetime(1890, 1, 1), datetime(2150, 1, 1)).map(str),  # noqa: DTZ001  text
    st.sampled_from(
        [
            "2026-01-01 00:00:00",
            "1900-01-01 00:00:00",
            "8999-12-31 23:59:59.999999",
            "infinity",
            "2026-01-01 00:00:00.1234567",
            "2026-01-01 00:00:00\0x",
            "20000-01-01",
            "now",
            "",
        ]
    ),
)
counts = st.sampled_from([0, 0, 1, 2, 2**31 - 2, 2**31 - 1, 2**31, 2**63 - 1, -1, "many", 0.5])
rows = st.fixed_dictionaries(
    {"type": types, "payload": payloads, "end_at": times},
    optional={
        "expires_at": times,
        "idempotency_key": st.text(max_size=300),
        "attempts": counts,
        "fail_count": counts,
        "expiries": counts,
        "last_error": st.text(max_size=20),
        "outcome": st.sampled_from(["processed", "dead", "cancelled", "done"]),
        "id": st.sampled_from([-(2**63), -1, 0, 7, 2**40]),
    },
)
