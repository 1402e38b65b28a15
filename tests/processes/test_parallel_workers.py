"""Several models, and several workers of one model, beside each other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from handmade_pexes import Wheel, model, write_pex
from supervisor_harness import Supervised
from tinypex import write_tiny

TELLS = """
import polars as pl
import base.service as svc
import clash

@svc.endpoint(path="/NAME")
def predict(records_df: pl.DataFrame):
    return [clash.VERSION] * records_df.height
"""

BLOCKS = """
    import os
    import time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/blocks", batch_max_size=1)
    def predict(records_df: pl.DataFrame):
        if records_df["x"][0] == 99:
            time.sleep(0.1)
            return [os.getpid()] * records_df.height
        with open(FOLDER + "/" + str(records_df["x"][0])) as pipe:
            pipe.read()
        return [os.getpid()] * records_df.height
"""


def test_two_models_can_have_conflicting_versions_of_a_package(tmp_path):
    """Each imports its own, and neither sees the other's."""
    supervised = Supervised(tmp_path)
    for name, version in (("first", "1.0"), ("second", "2.0")):
        package = Wheel("clash", version, files={"clash/__init__.py": f"VERSION = {version!r}\n"})
        files = {f"{name}/__init__.py": TELLS.replace("NAME", name)}
        write_pex(supervised.dist / f"{name}.pex", model(name, files=files, requires=(f"clash=={version}",)), package)
    with supervised:
        assert supervised.predictions("/first") == ["1.0"]
        assert supervised.predictions("/second") == ["2.0"]


def test_workers_of_a_release_compute_in_parallel(tmp_path):
    """As many requests are in progress as there are workers, each in another process."""
    for number in range(3):
        os.mkfifo(tmp_path / str(number))
    supervised = Supervised(tmp_path, workers_per_release=3)
    write_tiny(supervised.dist / "blocks.pex", "blocks", module=BLOCKS.replace("FOLDER", repr(str(tmp_path))))
    with supervised, ThreadPoolExecutor(9) as asking:

        def pids():
            return {reply[0] for reply in asking.map(lambda _: supervised.predictions("/blocks", 99), range(9))}

        supervised.until(lambda: len(pids()) == 3)  # all of them are ready, and the front door knows
        replies = [asking.submit(supervised.predictions, "/blocks", number) for number in range(3)]
        pipes = [(tmp_path / str(number)).open("w") for number in range(3)]  # each opens once its handler has it open
        for pipe in pipes:
            pipe.close()
        assert sorted(pid for reply in replies for pid in reply.result()) == sorted(supervised.release("blocks.pex")["worker_pids"])
