import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.memory import times
from holdfast.memory.errors import InvalidInputError


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_reads_back_to_the_microsecond(moment: datetime) -> None:
    micros = times.to_micros(moment)
    assert times.to_datetime(micros) == moment
    assert times.to_micros(moment.isoformat()) == micros
    assert times.to_micros(moment.replace(tzinfo=None)) == micros


@given(st.datetimes(), st.datetimes())
def test_times_keep_their_order(first: datetime, second: datetime) -> None:
    assert (times.to_micros(first) < times.to_micros(second)) == (first < second)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01", " 2026-03-01T00:00:00Z\n", "2026-03-01T01:30+01:30", date(2026, 3, 1),
        datetime(2026, 3, 1), datetime(2026, 2, 28, 19, tzinfo=timezone(timedelta(hours=-5))),
    ],
)  # fmt: skip
def test_a_time_may_be_given_in_many_forms(value: times.Time) -> None:
    assert times.to_micros(value) == 1_772_323_200_000_000


def test_a_bare_day_has_a_first_and_a_last_microsecond_and_a_time_has_none() -> None:
    day = 86_400_000_000
    for said in ("2026-03-01", "20260301"):
        assert times.day_of(said) == (1_772_323_200_000_000, 1_772_323_200_000_000 + day - 1)
    assert times.day_of("9999-12-31") == (times.LAST - day + 1, times.LAST)
    for said in ("2026-03-01T00:00", "2026-03-01T09:30:00Z", "2026-03", "soon", "", "2026-02-30"):
        assert times.day_of(said) is None


@pytest.mark.parametrize("value", ["tomorrow", "", "01.03.2026", "2026-13-01", 5, None, b"2026"])
def test_what_is_no_time_is_refused_by_the_name_of_its_field(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"valid_to.*ISO 8601") as caught:
        times.to_micros(value, "valid_to")  # type: ignore[arg-type]
    assert "tomorrow" not in str(caught.value)


@pytest.mark.parametrize("value", ["0001-01-01T00:00+10:00", "9999-12-31T23:00-10:00"])
def test_a_time_outside_the_calendar_in_utc_is_refused(value: str) -> None:
    with pytest.raises(InvalidInputError, match="valid_from"):
        times.to_micros(value, "valid_from")


def test_now_is_the_wall_clock() -> None:
    before = time.time()
    now = times.now()
    assert before - 1 < now / 1e6 < time.time() + 1
    assert times.to_datetime(now).tzinfo is UTC
