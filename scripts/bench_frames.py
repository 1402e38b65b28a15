"""Measures the forms in which a handler may take its rows, and scikit-learn's predict with them; the cases take turns in one process."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from base.schema import Schema
from base.schema.forms import FrameForm, frame_converter
from benchmark import machine

WIDTH = 8
SIZES = (1, 64, 10_000)
SEED = 7


class Numbers(Schema):
    """Eight numbers of one dtype."""

    a: pl.Float64
    b: pl.Float64
    c: pl.Float64
    d: pl.Float64
    e: pl.Float64
    f: pl.Float64
    g: pl.Float64
    h: pl.Float64


class Mixed(Schema):
    """Four numbers, two integers, a text and an enum."""

    a: pl.Float64
    b: pl.Float64
    c: pl.Float64
    d: pl.Float64
    e: pl.Int64
    f: pl.Int64 | None
    g: pl.String | None
    h: Annotated[str, pl.Enum(["red", "green", "blue"])]


TEXT = """# Forms of rows

`scripts/bench-frames` writes this page. The cases take turns in one process. Times are of all its threads, and medians of
{times}; ratios mean more than microseconds.

Microseconds of processor time to give a frame of {width} columns each form, beside Polars' own conversion:

{forms}

Microseconds of processor time of scikit-learn's `predict` of models that were fitted on pandas, with the conversion:

{models}

## Measured on

{machine}
"""


def measure(cases: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Returns the median processor time of each case in microseconds; time on a clock would be that of a busy machine."""
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(times):
        for name, call in cases.items():
            before_s = time.process_time()
            call()
            took[name].append(time.process_time() - before_s)
    return {name: statistics.median(each) * 1e6 for name, each in took.items()}


def numbers(rows: int) -> pl.DataFrame:
    """Returns rows of numbers."""
    rng = np.random.default_rng(SEED)
    return pl.DataFrame({name: rng.normal(size=rows) for name in Numbers.columns()})


def mixed(rows: int) -> pl.DataFrame:
    """Returns rows of numbers and texts."""
    rng = np.random.default_rng(SEED)
    colours, whole = rng.choice(["red", "green", "blue"], rows), rng.integers(0, 100, rows)
    frame = numbers(rows).with_columns(e=pl.Series(whole), f=pl.Series(whole), g=pl.Series(colours), h=pl.Series(colours))
    return frame.cast(dict(Mixed.polars_schema()))


def converted(form: FrameForm, schema: type[Schema], frame: pl.DataFrame) -> Callable[[], Any]:
    """Returns a function that gives the frame this form."""
    convert = frame_converter("a benchmark", form, schema) or (lambda given: given)
    return lambda: convert(frame)


def measure_forms(times: int) -> str:
    """Returns a table of the forms by sizes and kinds of columns."""
    columns: dict[str, dict[str, float]] = {}
    for kind, schema, make in (("numbers", Numbers, numbers), ("mixed", Mixed, mixed)):
        for rows in SIZES:
            frame = make(rows)
            cases = {
                form.value: converted(form, schema, frame)
                for form in (FrameForm.NUMPY, FrameForm.PANDAS, FrameForm.ARROW, FrameForm.ROWS)
                if schema is Numbers or form is not FrameForm.NUMPY
            }
            columns[f"{kind}, {rows:,}"] = measure(
                {**cases, "`records_df.to_pandas()`": frame.to_pandas}, times if rows <= 64 else times // 10
            )
    return table("form", columns)


def measure_models(times: int) -> str:
    """Returns a table of models by the form of their rows."""
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    names = list(Numbers.columns())
    target = (np.arange(1_000) % 2).astype(str)
    plain, tabular = numbers(1_000).to_pandas(), converted(FrameForm.PANDAS, Mixed, mixed(1_000))()
    encoded = make_column_transformer((OneHotEncoder(), ["g", "h"]), (StandardScaler(), names[:6]))
    models: dict[str, tuple[Any, type[Schema], Callable[[int], pl.DataFrame]]] = {
        "scaler and logistic regression": (make_pipeline(StandardScaler(), LogisticRegression()).fit(plain, target), Numbers, numbers),
        "forest of 10 trees": (RandomForestClassifier(10, max_depth=5, random_state=SEED).fit(plain, target), Numbers, numbers),
        "column transformer and logistic regression": (make_pipeline(encoded, LogisticRegression()).fit(tabular, target), Mixed, mixed),
    }
    found: dict[str, dict[str, float]] = {}
    for name, (model, schema, make) in models.items():
        for rows in (1, 64):
            frame = make(rows)
            forms = [FrameForm.NUMPY] * (schema is Numbers) + [FrameForm.FRAME, FrameForm.PANDAS]
            gives = {form.value: converted(form, schema, frame) for form in forms}
            cases = {form: (lambda give=give, model=model: model.predict(give())) for form, give in gives.items()}
            own = {"`records_df.to_pandas()`": lambda frame=frame, model=model: model.predict(frame.to_pandas())}
            found[f"{name}, {rows}"] = measure({**cases, **own}, times // 4)
    forms = [FrameForm.NUMPY.value, FrameForm.FRAME.value, FrameForm.PANDAS.value, "`records_df.to_pandas()`"]
    return table("model, rows", {form: {case: each.get(form, np.nan) for case, each in found.items()} for form in forms})


def table(corner: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    """Returns a table in Markdown, with rows in the order in which they first come."""
    rows = list(dict.fromkeys(name for each in columns.values() for name in each))
    lines = [[corner, *columns], ["---", *["--:"] * len(columns)]]
    for row in rows:
        values = [each.get(row, np.nan) for each in columns.values()]
        lines.append([row, *["" if np.isnan(value) else f"{value:,.0f}" for value in values]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--into", type=Path, default=Path("docs/benchmarks/frames.md"))
    arguments = parser.parse_args()
    text = TEXT.format(
        times=arguments.times,
        width=WIDTH,
        forms=measure_forms(arguments.times),
        models=measure_models(arguments.times),
        machine="\n".join(f"- {name}: {value}" for name, value in machine.facts().items()),
    )
    arguments.into.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
