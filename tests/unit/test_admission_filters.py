"""Filters and orders of job lists: what is read, and where reading stops."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.admission.filters import FIELDS, KINDS, STATES, Order, Term, parse_filter, parse_order
from scheduler.store import listing
from visionmesh.errors import MeshError, Reason

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  \n ", []),
        ("state = RUNNING", [Term("state", "=", ("RUNNING",))]),
        ("state=RUNNING|QUEUED", [Term("state", "=", ("RUNNING", "QUEUED"))]),
        ("kind != train|detect_faces", [Term("kind", "!=", ("train", "detect_faces"))]),
        ("framework = ultralytics", [Term("framework", "=", ("ultralytics",))]),
        ("priority >= 5", [Term("priority", ">=", (5,))]),
        ("priority<10", [Term("priority", "<", (10,))]),
        ("labels.team = vision", [Term("labels.team", "=", ("vision",))]),
        ("labels.a/b.c-d != x", [Term("labels.a/b.c-d", "!=", ("x",))]),
        ('display_name = "night run"', [Term("display_name", "=", ("night run",))]),
        (r'display_name = "say \"AND\" \\ x|y"', [Term("display_name", "=", ('say "AND" \\ x|y',))]),
        ('labels.note = ""', [Term("labels.note", "=", ("",))]),
        ('create_time > "2026-01-01T00:00:00Z"', [Term("create_time", ">", (NEW_YEAR,))]),
        ("create_time > 2026-01-01T02:00:00+02:00", [Term("create_time", ">", (NEW_YEAR,))]),
        ("update_time <= 2026-01-01", [Term("update_time", "<=", (NEW_YEAR,))]),
        ("retried_from = jobs/x", [Term("retried_from", "=", ("jobs/x",))]),
        (
            "  state = FAILED  AND\tkind = train AND priority > 1 ",
            [Term("state", "=", ("FAILED",)), Term("kind", "=", ("train",)), Term("priority", ">", (1,))],
        ),
    ],
)
def test_what_job_proto_documents_is_read(text: str, terms: list[Term]) -> None:
    assert parse_filter(text) == terms


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("colour = red", 1, "no field 'colour'; known: state, kind"),
        ("  labels. = red", 3, "expected a term"),
        ("state", 1, "expected a term"),
        ("state = ", 1, "expected a term"),
        ("state == RUNNING", 8, "state is one of PENDING, QUEUED"),
        ("state = DONE", 9, "state is one of PENDING, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED"),
        ("state = running", 9, "not 'running'"),
        ("state = RUNNING|DONE", 9, "not 'DONE'"),
        ("state > RUNNING", 7, "can be compared with = and != only"),
        ("labels.team >= a", 13, "can be compared with = and != only"),
        ("kind = trains", 8, "kind is one of train, validate"),
        ("priority = 11", 12, "number from 0 to 10, not '11'"),
        ("priority = -1", 12, "number from 0 to 10"),
        ("priority = high", 12, "number from 0 to 10"),
        ("priority = ٣", 12, "number from 0 to 10"),
        ("priority > 1|2", 12, "> takes one value"),
        ("create_time > yesterday", 15, "is not a time such as"),
        ("create_time > 0001-01-01T00:00:00+14:00", 15, "is not a time such as"),
        ("state = RUNNING kind = train", 17, "expected AND"),
        ("state = RUNNING and kind = train", 17, "expected AND"),
        ("state = RUNNING AND", 20, "expected a term after AND"),
        ("state = RUNNING AND AND kind = train", 21, "expected a term"),
        ("state = RUNNING|", 16, "expected AND"),
        ('display_name = "night run', 1, "expected a term"),
        ('display_name = "a"b', 19, "expected AND"),
        ("display_name = a\0b", 17, "control character"),
    ],
)
def test_an_error_names_the_position_and_what_would_be_right(text: str, position: int, words: str) -> None:
    with pytest.raises(MeshError) as raised:
        parse_filter(text)
    assert raised.value.reason == Reason.BAD_FILTER
    assert raised.value.violations[0].field == "filter"
    assert f"at character {position} of" in raised.value.message
    assert words in raised.value.message


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", Order("create_time", True)),
        ("create_time", Order("create_time", False)),
        (" create_time  desc ", Order("create_time", True)),
        ("update_time asc", Order("update_time", False)),
        ("priority desc", Order("priority", True)),
    ],
)
def test_orders(text: str, order: Order) -> None:
    assert parse_order(text) == order


@pytest.mark.parametrize(
    "text", ["state", "create_time DESC", "priority desc, create_time", "desc", "-priority"]
)
def test_other_orders_are_refused_with_the_choice(text: str) -> None:
    with pytest.raises(MeshError, match="is not one of create_time, update_time, priority") as raised:
        parse_order(text)
    assert (raised.value.reason, raised.value.violations[0].field) == (Reason.BAD_FILTER, "order_by")


def test_states_and_kinds_are_those_of_the_contract() -> None:
    assert STATES == ("PENDING", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
    assert KINDS == ("train", "validate", "infer", "embed", "detect_faces", "embed_faces")


WORD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
TEXT_FIELDS = st.sampled_from(["framework", "display_name", "retried_from", "labels.team", "labels.a/b"])
TERMS = st.one_of(
    st.builds(Term, TEXT_FIELDS, st.sampled_from(["=", "!="]), st.tuples(WORD)),
    st.builds(
        Term,
        st.just("state"),
        st.sampled_from(["=", "!="]),
        st.lists(st.sampled_from(STATES), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        Term,
        st.just("priority"),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.tuples(st.integers(0, 10)),
    ),
    st.builds(
        Term,
        st.sampled_from(["create_time", "update_time"]),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.tuples(st.datetimes(timezones=st.just(UTC))),
    ),
)


def _written(term: Term, space: str) -> str:
    if isinstance(term.values[0], datetime):
        value = f'"{term.values[0].isoformat()}"'
    elif term.field in {"state", "priority"}:
        value = "|".join(map(str, term.values))
    else:
        escaped = str(term.values[0]).replace("\\", "\\\\").replace('"', '\\"')
        value = f'"{escaped}"'
    return f"{term.field}{space}{term.op}{space}{value}"


@given(st.lists(TERMS, max_size=5), st.sampled_from(["", " ", "  "]))
def test_every_filter_that_can_be_written_is_read_as_meant(terms: list[Term], space: str) -> None:
    parsed = parse_filter(" AND ".join(_written(term, space) for term in terms))
    assert parsed == terms
    assert str(listing.condition(parsed))  # and has its SQL


PIECES = st.sampled_from(
    [*FIELDS, "labels.a", "=", "!=", ">=", "|", '"', "\\", "AND", " ", "RUNNING", "5", "x"]
)


@given(st.text(max_size=80) | st.lists(PIECES, max_size=12).map("".join) | st.lists(PIECES).map(" ".join))
@settings(max_examples=500)
def test_no_text_can_do_more_than_be_refused(text: str) -> None:
    try:
        terms = parse_filter(text)
    except MeshError as refused:
        assert refused.reason == Reason.BAD_FILTER  # noqa: PT017 - either outcome is fine
        return
    assert all(term.values for term in terms)
    assert len(terms) <= text.count("=") + text.count("<") + text.count(">")


def test_a_long_filter_takes_no_longer_than_its_length() -> None:
    """No backtracking: 2000 characters, the most that the contract takes, of what looks like a value."""
    for text in ("a" * 2000, 'display_name = "' + "\\" * 1984, "a." * 1000, "state = " + "x|" * 996):
        with pytest.raises(MeshError):
            parse_filter(text)


def test_terms_keep_their_order() -> None:
    text = " AND ".join(f"priority != {number}" for number in range(11))
    values = [term.values[0] for term in parse_filter(text)]
    assert all(isinstance(a, int) and isinstance(b, int) and a < b for a, b in pairwise(values))
