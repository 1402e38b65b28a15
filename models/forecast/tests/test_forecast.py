from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from base.endpoint.describe import example_request
from base.testing import TestClient
from forecast import endpoints
from forecast.calendar import Frequency, regular_times
from forecast.fitting import Unfit, forecast_series
from forecast.generate import generate

PARQUET = "application/vnd.apache.parquet"


def rows_of(values, *, ahead=0, holidays=(), every=timedelta(days=1), start=datetime(2024, 1, 1)):
    """Returns the rows of a daily series, with holidays by their places."""
    places = range(len(values) + ahead)
    return pl.DataFrame(
        {
            "time": [start + every * place for place in places],
            "value": [float(each) for each in values] + [None] * ahead,
            "holiday": [place in holidays for place in places],
        },
        schema={"time": pl.Datetime("us"), "value": pl.Float64, "holiday": pl.Boolean},
    )


def daily(rows, *, horizon=3, level=0.9, **options):
    return forecast_series(rows, frequency="day", horizon=horizon, level=level, **options)


def test_a_line_goes_on() -> None:
    """3, 5, 7 ... 41 is followed by 43, 45, 47; an exact fit has an interval of no width."""
    found = daily(rows_of(range(3, 43, 2)), season=1)
    assert found["time"].to_list() == [datetime(2024, 1, day) for day in (21, 22, 23)]
    for name in ("mean", "lower", "upper"):
        assert found[name].to_list() == pytest.approx([43, 45, 47])


def test_a_week_that_repeats_goes_on() -> None:
    """The seasonal naive forecast: the same day of the week before, also in the second week."""
    week = [10, 20, 30, 40, 50, 70, 5]
    found = daily(rows_of(week * 4), horizon=10)
    assert found["mean"].to_list() == pytest.approx([*week, *week[:3]])


def test_intervals_hold_as_many_values_as_they_say() -> None:
    """80 % of the values that really follow lie inside, for a line with a week and normal noise."""
    random, day = np.random.default_rng(3), np.arange(91)
    inside = []
    for _ in range(60):
        values = 100 + 0.5 * day + random.normal(0, 20, 7)[day % 7] + random.normal(0, 5, 91)
        found = daily(rows_of(values[:84]), horizon=7, level=0.8)
        inside.extend((found["lower"].to_numpy() <= values[84:]) & (values[84:] <= found["upper"].to_numpy()))
    assert 0.72 < np.mean(inside) < 0.88


def test_a_damped_trend_rises_less() -> None:
    """The steps get smaller; without damping they stay equal."""
    values = [*range(20), 22, 21, 23, 22, 24]
    straight, damped = (np.diff(daily(rows_of(values), horizon=8, season=1, damped=damped)["mean"]) for damped in (False, True))
    assert straight == pytest.approx(np.full(7, straight[0]))
    assert (np.diff(damped) < 0).all()


def test_a_holiday_adds_what_former_holidays_added() -> None:
    """A line of 2 a day, with 100 more on three holidays: the third step is a holiday, too, and the line itself is not disturbed."""
    holidays = {4, 11, 17, 22}
    values = [3 + 2 * place + 100 * (place in holidays) for place in range(20)]
    found = daily(rows_of(values, ahead=5, holidays=holidays), horizon=4, season=1)
    assert found["mean"].to_list() == pytest.approx([43, 45, 147, 49])
    assert daily(rows_of(values, holidays=holidays), horizon=4, season=1)["mean"].to_list() == pytest.approx([43, 45, 47, 49])


def test_holidays_may_be_dates_of_all_series(client: TestClient) -> None:
    """The same line as above: the dates take the place of marks in the rows, of the past and of the steps."""
    holidays = {4, 11, 17, 22}
    values = [3 + 2 * place + 100 * (place in holidays) for place in range(20)]
    dates = [f"2024-01-{place + 1:02}" for place in holidays]
    answer = client.post(
        "/predictions/forecast",
        content=in_parquet(named(one=rows_of(values), two=rows_of(values, holidays={4, 11}))),
        headers={"content-type": PARQUET},
        params={"horizon": 4, "season": 1, "holidays": dates},
    )
    assert [row["mean"] for row in answer.json()["predictions"]] == pytest.approx([43, 45, 147, 49] * 2)


def test_the_order_of_rows_does_not_matter() -> None:
    """A missing value may be null or NaN."""
    rows = rows_of(np.random.default_rng(2).normal(10, 1, 20), ahead=4, holidays={3, 21})
    shuffled = rows.with_columns(pl.col("value").fill_null(float("nan"))).sample(fraction=1, shuffle=True, seed=1)
    assert daily(shuffled).equals(daily(rows))


@pytest.mark.parametrize(
    ("frequency", "first", "following"),
    [
        ("hour", datetime(2024, 2, 28, 23), [datetime(2024, 2, 29), datetime(2024, 2, 29, 1)]),
        ("week", datetime(2024, 2, 26), [datetime(2024, 3, 4), datetime(2024, 3, 11)]),
        ("month", datetime(2024, 1, 1), [datetime(2024, 2, 1), datetime(2024, 3, 1)]),
        ("month", datetime(2024, 2, 29), [datetime(2024, 3, 31), datetime(2024, 4, 30)]),
        ("month", datetime(2024, 1, 30, 6), [datetime(2024, 2, 29, 6), datetime(2024, 3, 30, 6)]),
        ("quarter", datetime(2023, 12, 31), [datetime(2024, 3, 31), datetime(2024, 6, 30)]),
        ("year", datetime(2024, 1, 1), [datetime(2025, 1, 1), datetime(2026, 1, 1)]),
    ],
)
def test_times_follow_the_calendar(frequency: Frequency, first: datetime, following: list[datetime]) -> None:
    """Months that are named by their last day stay at their last day."""
    assert regular_times(pl.Series([first]), frequency, 3).to_list() == [first, *following]


VALUES = [float(value % 5) for value in range(20)]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (rows_of([1, 2, 3]), "it has 3 values, and needs 16 if a season has 7"),
        (rows_of([], ahead=3), "it has 0 values, and needs 16 if a season has 7"),
        (rows_of([4] * 20), "it is constant: all 20 values are 4.0"),
        (
            rows_of(VALUES)[[*range(9), *range(10, 20)]],
            "it has 2024-01-11 00:00:00 where 2024-01-10 00:00:00 is due, with one value every day",
        ),
        (
            rows_of(VALUES)[[*range(9), 8, *range(9, 20)]],
            "it has 2024-01-09 00:00:00 where 2024-01-10 00:00:00 is due, with one value every day",
        ),
        (rows_of([*VALUES[:9], float("nan"), *VALUES]), "it has no value at 2024-01-10 00:00:00"),
        (rows_of([float("nan"), *VALUES]), "it has no value at 2024-01-01 00:00:00"),
        (
            pl.concat([rows_of(VALUES), rows_of([], ahead=1, holidays={0}, start=datetime(2024, 1, 22, 12))]),
            "it has a holiday at 2024-01-22 12:00:00, which is no step after its last value, with one value every day",
        ),
        (rows_of([1e101 * value for value in VALUES]), "it has values beyond 1e+100, whose squares cannot be summed up"),
        (rows_of([*VALUES, float("-inf")]), "it has values beyond 1e+100, whose squares cannot be summed up"),
    ],
)
def test_a_series_that_cannot_be_forecast_says_why(rows, reason) -> None:
    """With the time, if it is about one."""
    with pytest.raises(Unfit) as refused:
        daily(rows)
    assert str(refused.value) == reason


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(endpoints.forecast) as client:
        yield client


def named(**series):
    return pl.concat([rows.select(pl.lit(name).alias("series"), pl.all()) for name, rows in series.items()])


def one_shot(rows, options):
    """Returns what the endpoint returns for each series, without a server."""
    return pl.concat(
        [
            endpoints.forecast(part, options).select(pl.lit(name).alias("series"), pl.all())
            for (name,), part in rows.group_by("series", maintain_order=True)
        ]
    )


def in_parquet(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


TWO = named(up=rows_of(range(16)), down=rows_of(range(40, 20, -1), start=datetime(2024, 5, 1)))
"""Lines of different lengths and times: 16, 17 ... follow the first, 20, 19 ... the second."""


def test_each_series_is_forecast_in_the_order_of_the_request(client: TestClient) -> None:
    """The response has as many rows as the horizon says, for each series, whatever the media type."""
    answer = client.post(
        "/predictions/forecast",
        content=in_parquet(TWO),
        headers={"content-type": PARQUET, "accept": PARQUET},
        params={"horizon": 2, "season": 1},
    )
    assert answer.status == 200, answer.text()
    found = pl.read_parquet(answer.content)
    assert found["series"].to_list() == ["up", "up", "down", "down"]
    assert found["time"].to_list() == [datetime(2024, 1, 17), datetime(2024, 1, 18), datetime(2024, 5, 21), datetime(2024, 5, 22)]
    assert found["mean"].to_list() == pytest.approx([16, 17, 20, 19])
    as_csv = client.post(
        "/predictions/forecast", content=TWO.write_csv().encode(), headers={"content-type": "text/csv"}, params={"horizon": 2, "season": 1}
    )
    assert pl.DataFrame(as_csv.json()["predictions"])["mean"].to_list() == found["mean"].to_list()


BAD = named(short=rows_of([1, 2]), up=TWO.filter(series="up").drop("series"), flat=rows_of([7] * 16))
REASONS = {"short": "it has 2 values, and needs 16 if a season has 7", "flat": "it is constant: all 16 values are 7.0"}


def test_series_that_cannot_be_forecast_are_named_beside_the_others(client: TestClient) -> None:
    """Each with its reason; who wants all or nothing says so."""
    headers = {"content-type": PARQUET}
    answer = client.post("/predictions/forecast", content=in_parquet(BAD), headers=headers)
    assert answer.status == 207
    assert {row["series"] for row in answer.json()["predictions"]} == {"up"}
    assert {each["group"]["series"]: each["detail"] for each in answer.json()["failed"]} == REASONS
    strict = client.post("/predictions/forecast", content=in_parquet(BAD), headers={**headers, "prefer": "handling=strict"})
    assert strict.status == 422
    assert {each["group"]["series"]: each["detail"] for each in strict.json()["groups"]} == REASONS


@pytest.mark.parametrize("params", [{"horizon": 0}, {"level": 1}, {"frequency": "minute"}, {"season": "x"}])
def test_parameters_are_checked_by_name(client: TestClient, params) -> None:
    """Before anything is fitted."""
    answer = client.post("/predictions/forecast", json=[], params=params)
    assert (answer.status, answer.json()["errors"][0]["column"]) == (422, *params)


def test_the_example_is_a_request_that_works(client: TestClient) -> None:
    """Sixteen days are enough; the warm-up and the printed command send them, too."""
    example = example_request(endpoints.forecast)
    assert example is not None
    rows = [row | {"time": row["time"].isoformat()} for row in example.rows]
    assert len(client.post("/predictions/forecast", json=rows).json()["predictions"]) == 7


def test_generated_series_are_the_same_in_each_run_and_can_be_forecast() -> None:
    """Holidays of the days to come are marked, in rows without a value."""
    rows = generate(3, days=84, ahead=10)
    assert rows.equals(generate(3, days=84, ahead=10))
    assert rows.filter(series="shop-00000").select(values=pl.col("value").count(), holidays=pl.col("holiday").sum()).row(0) == (84, 6)
    steps = one_shot(rows, endpoints.Options(horizon=10))
    assert steps.height == 30
    assert (steps["lower"] < steps["upper"]).all()


def test_a_context_is_fitted_once_and_asked_for_single_steps(tmp_path, monkeypatch) -> None:
    """The steps are those of the one-shot forecast, in the order in which they were asked for; a series that was not fitted is named."""
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(tmp_path))
    rows = generate(3, days=84, ahead=10)
    history = rows.drop_nulls("value")
    shot = one_shot(history, endpoints.Options(horizon=5, level=0.8))
    content = in_parquet(history)
    with TestClient(*endpoints.contexts.endpoints) as client:
        for again in (False, True):
            answer = client.request("PUT", "/forecast/contexts/shops", content=content, headers={"content-type": PARQUET})
            assert answer.json()["predictions"]["fitted"] is not again, answer.text()
        asked = [{"series": "shop-00002", "step": 5}, {"series": "shop-00000", "step": 1}, {"series": "shop-00002", "step": 2}]
        answer = client.post("/forecast/predict/shops", json=asked, params={"level": 0.8})
        found = pl.DataFrame(answer.json()["predictions"])
        expected = [shot.row(row, named=True) for row in (14, 0, 11)]
        assert found["series"].to_list() == [row["series"] for row in expected]
        assert found["time"].to_list() == [row["time"].isoformat() for row in expected]
        for name in ("mean", "lower", "upper"):
            assert found[name].to_list() == pytest.approx([row[name] for row in expected])
        refused = client.post("/forecast/fit", content=in_parquet(BAD), headers={"content-type": PARQUET})
        reasons = [f"series {name}: {reason}" for name, reason in REASONS.items()]
        assert [(each["row"], each["reason"]) for each in refused.json()["errors"]] == [*zip([0, 18], reasons, strict=True)]
        assert client.post("/forecast/fit", json=[]).status == 422
        answer = client.post("/forecast/predict/shops", json=[asked[1], {"series": "none", "step": 1}])
        assert (answer.status, answer.json()["errors"]) == (422, [{"reason": "there is no series none in this context", "row": 1}])


def test_a_holiday_of_a_context_adds_what_former_holidays_added(tmp_path, monkeypatch) -> None:
    """The same line as above, with 100 more on holidays."""
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(tmp_path))
    holidays = {4, 11, 17}
    rows = named(line=rows_of([3 + 2 * place + 100 * (place in holidays) for place in range(20)], holidays=holidays))
    fitted = endpoints.fit(rows, endpoints.Shape(season=1))
    ahead = pl.DataFrame({"series": ["line"] * 3, "step": [3, 3, 1], "holiday": [True, False, False]})
    assert endpoints.predict(fitted, ahead, endpoints.Interval())["mean"].to_list() == pytest.approx([147, 47, 43])
