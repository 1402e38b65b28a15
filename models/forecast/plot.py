"""`python plot.py history.parquet forecast.parquet --series shop-00042`: draws the values of series and their forecasts into a PNG."""

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import polars as pl

mpl.use("agg")  # draws without a screen
import matplotlib.pyplot as plt


def draw(history: pl.DataFrame, forecast: pl.DataFrame, names: list[str], output: Path) -> None:
    """Writes a panel for each series: its values, the mean of its forecast, and the prediction interval."""
    figure, panels = plt.subplots(len(names), squeeze=False, sharex=True, figsize=(10, 1 + 2.2 * len(names)), layout="constrained")
    for panel, name in zip(panels[:, 0], names, strict=True):
        values, steps = history.filter(series=name).drop_nulls("value"), forecast.filter(series=name)
        holidays = values.filter("holiday") if "holiday" in values.columns else values.clear()
        panel.plot(values["time"], values["value"], color="#6b7280", linewidth=1, label="values")
        panel.plot(holidays["time"], holidays["value"], "o", color="#f59e0b", markersize=4, label="holidays")
        panel.plot(steps["time"], steps["mean"], color="#2563eb", label="forecast")
        panel.fill_between(steps["time"], steps["lower"], steps["upper"], color="#2563eb", alpha=0.2, linewidth=0, label="interval")
        panel.set_title(name, loc="left", fontsize=10)
    panels[0, 0].legend(ncols=4, loc="upper right", bbox_to_anchor=(1, 1.25), frameon=False, fontsize=9)
    figure.savefig(output, dpi=110)


def main() -> int:
    """Reads the two files, and draws the named series, or the first three."""
    parser = argparse.ArgumentParser(prog="python plot.py", description=__doc__)
    parser.add_argument("history", type=Path, help="what was sent, as Parquet")
    parser.add_argument("forecast", type=Path, help="the response, as Parquet")
    parser.add_argument("--series", nargs="+", metavar="NAME", help="default: the first three")
    parser.add_argument("--output", type=Path, default=Path("forecast.png"), metavar="FILE", help="default: forecast.png")
    given = parser.parse_args()
    history, forecast = pl.read_parquet(given.history), pl.read_parquet(given.forecast)
    names = given.series or forecast["series"].unique(maintain_order=True)[:3].to_list()
    draw(history, forecast, names, given.output)
    sys.stdout.write(f"{given.output}: {', '.join(names)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
