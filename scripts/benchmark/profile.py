"""`scripts/profile`: records flame graphs of a front door and a worker under load."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark import environments, forms, pexdock
from benchmark.load import WRK_SCRIPT
from benchmark.parts.part import folder
from benchmark.processes import adopt, name

ROLES = ("front door", "worker")


def main() -> int:
    """Starts Pexdock and a load, records both processes at the same time, and prints the paths of the graphs."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    adopt()
    environments.install("py-spy")
    options.output.mkdir(parents=True, exist_ok=True)
    with folder() as scratch, folder() as built:
        dist = options.dist or _linear(built)
        with pexdock.serving(scratch, dist) as it, _load(options, it.url + options.path, scratch):
            pids = {role: next(pid for pid in it.processes if name(pid) == role) for role in ROLES}
            for path in _record(options, pids):
                print(path)
    return 0


def arguments() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/profile", description=__doc__)
    parser.add_argument("--dist", type=lambda text: Path(text).absolute(), help="folder with base and a model [default: the benchmark's]")
    parser.add_argument("--path", default="/predict", help="path of the endpoint")
    parser.add_argument("--body", type=Path, help="file with the JSON body [default: rows of the benchmark's model]")
    parser.add_argument("--rows", type=int, default=1, help="rows of the default body")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--native", action="store_true", help="show C frames too; slower, and stops the process for each sample")
    parser.add_argument("--gil", action="store_true", help="show only threads that hold the GIL")
    parser.add_argument("--output", type=Path, default=pexdock.ROOT / "build/profile", help="folder of the graphs")
    return parser.parse_args()


def _linear(dist: Path) -> Path:
    pexdock.build_base(dist)
    pexdock.build_model(dist)
    return dist


@contextmanager
def _load(options: argparse.Namespace, url: str, scratch: Path) -> Iterator[None]:
    """Runs a closed loop of wrk that outlasts the recording."""
    if shutil.which("wrk") is None:
        sys.exit("scripts/profile needs wrk, install it, on Debian and Ubuntu with apt-get install wrk")
    (scratch / "body").write_bytes(options.body.read_bytes() if options.body else forms.RECORDS.body(forms.rows(options.rows)))
    (scratch / "post.lua").write_text(WRK_SCRIPT % forms.RECORDS.content_type)
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds + 60}s", "-s", "post.lua", url]
    with subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def _record(options: argparse.Namespace, pids: dict[str, int]) -> Iterator[Path]:
    """Runs a py-spy for each process."""
    spy = environments.folder_of("py-spy") / "bin/py-spy"
    recorders = {}
    for role, pid in pids.items():
        path = options.output / f"{role.replace(' ', '-')}.svg"
        # Without --nonblocking the process is stopped for each sample, some 0.2 ms of every 10, which makes samples consistent.
        command = [spy, "record", "--pid", str(pid), "--duration", str(options.seconds), "--rate", "200", "--output", path]
        extra = [flag for flag, wanted in {"--native": options.native, "--gil": options.gil}.items() if wanted]
        recorders[path] = subprocess.Popen([*command, *extra], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for path, recorder in recorders.items():
        _, errors = recorder.communicate()
        if recorder.returncode:
            sys.exit(f"py-spy failed:\n{errors}")
        yield path


if __name__ == "__main__":
    sys.exit(main())
