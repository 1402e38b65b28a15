"""A model that does, at `/labour`, what the first row's `do` names. Files whose paths begin with `mark` tell a test of it and steer it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

import base.service as svc
from base.errors import Reject
from base.schema import Schema

if Path("FOLDER/broken").exists():
    raise RuntimeError("no model to be found")
if (hold := Path("FOLDER/hold")).exists():
    Path(f"FOLDER/held-{os.getpid()}").touch()
    while hold.exists():
        time.sleep(0.02)


class Row(Schema):
    do: pl.String
    mark: pl.String


def waits(mark: str, context: svc.Context) -> str:
    """Returns once it may, or was cancelled."""
    while not Path(f"{mark}.go").exists():
        if context.cancelled():
            Path(f"{mark}.cancelled").touch()
            break
        time.sleep(0.02)
    return "waited"


def naps(mark: str, context: svc.Context) -> str:
    time.sleep(0.05)
    return mark


def ignores_cancellation(mark: str, context: svc.Context) -> str:
    while not Path(f"{mark}.go").exists():
        time.sleep(0.02)
    return "ignored"


def raises(mark: str, context: svc.Context) -> str:
    raise ValueError("no such luck")


def rejects(mark: str, context: svc.Context) -> str:
    raise Reject(422, "not this row", rows=[0])


def kills_its_worker(mark: str, context: svc.Context) -> str:
    os.kill(os.getpid(), 9)
    return "survived"


def takes_steps(mark: str, context: svc.Context) -> str:
    """Counts from its checkpoint to four, and waits after the second step if it is the first attempt."""
    stored = context.checkpoint_path
    begun = 0 if stored is None else int(stored.read_text())
    for step in range(begun, 4):
        note = Path(f"{mark}.step")
        note.write_text(str(step + 1))
        context.checkpoint(note)
        context.progress((step + 1) / 4, f"step {step + 1}")
        if step == 1 and begun == 0:
            waits(mark, context)
    return f"from {begun}"


@svc.endpoint("/labour", batched=False)
def labour(records_df: Row.DataFrame, context: svc.Context) -> dict[str, object]:
    do, mark = records_df.row(0)
    with Path(f"{mark}.begun").open("a") as begun:
        begun.write(f"{os.getpid()}\n")
    return {"did": globals()[do](mark, context), "attempt": context.attempt, "version": "VERSION"}


@svc.endpoint("/labour/groups", group_by=["do"])
def groups(records_df: Row.DataFrame) -> pl.DataFrame:
    mark = records_df["mark"][0]
    if Path(mark).is_absolute():  # else it is the row of the warm-up
        with Path(f"{mark}.begun").open("a") as begun:
            begun.write(f"{os.getpid()}\n")
        while not Path(f"{mark}.go").exists():
            time.sleep(0.02)
    return records_df.select("do")


@svc.endpoint("/labour/rows")
def rows(records_df: Row.DataFrame) -> pl.Series:
    return records_df["do"].str.to_uppercase()


@svc.endpoint("/labour/parts")
def parts(records_df: Row.DataFrame) -> Iterator[dict[str, object]]:
    for do, mark in records_df.rows():
        yield {"do": do}
        if do == "waits":
            with Path(f"{mark}.begun").open("a") as begun:
                begun.write(f"{os.getpid()}\n")
            while not Path(f"{mark}.go").exists():
                time.sleep(0.02)


@svc.endpoint("/labour/raw", raw=True)
def raw(request: svc.Request) -> svc.Response:
    return svc.Response(request.body[::-1], "text/plain")


@svc.endpoint("/labour/once", batched=False, retry=False)
def once(records_df: Row.DataFrame, context: svc.Context) -> dict[str, object]:
    do, mark = records_df.row(0)
    Path(f"{mark}.begun").touch()
    return {"did": globals()[do](mark, context)}
