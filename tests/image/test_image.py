"""The container image: built, run with mounted pexes, asked and stopped, in a real container engine.

The tests of this file share one container and go through its life in order.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

import example_models
from load_clients import LoadClients
from servers import free_port
from tinypex import write_tiny

ROOT = Path(__file__).parent.parent.parent
UID = 10001
MODULES = ("runtime", "runtime.front", "base")
"""Of a supervisor, a front door and a worker, in the words of their commands."""

READY_WITHIN_S = 400
"""The first start in an empty cache unpacks and compiles base."""

FLOWERS = [{"sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}, {"sepal_width": 3.0, "petal_length": 5.8, "petal_width": 2.2}]


def docker(*words, **environment):
    """What `docker words...` printed."""
    done = subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, f"docker {' '.join(map(str, words))}: {done.stderr}"
    return done.stdout.strip()


def inspect(container, form):
    return docker("inspect", "--format", form, container)


def ask(port, method, path, body=None):
    """Status and body of the answer; status 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=70)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def wait_until(condition, container, within_s):
    """Until it holds; fails with the container's log when time is over or the container has ended."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline or inspect(container, "{{.State.Running}}") != "true":
            logs = subprocess.run(["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
            pytest.fail(f"the container is {inspect(container, '{{json .State}}')}:\n{logs[-4000:]}")
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def engine():
    """Skips these tests, and says so, where no container engine answers."""
    if shutil.which("docker") is None:
        pytest.skip("THE IMAGE IS NOT TESTED: docker is not installed")
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"THE IMAGE IS NOT TESTED: no container engine answers: {answer.stderr.strip()}")


@pytest.fixture(scope="module")
def image(engine):
    """The image, built from this tree by the classic builder, which knows no extras of BuildKit."""
    tag = f"pexdock-test:{uuid.uuid4().hex[:12]}"
    docker("build", "--network", "host", "--tag", tag, ROOT, DOCKER_BUILDKIT="0")
    yield tag
    docker("rmi", "--force", tag)


@pytest.fixture(scope="module")
def volumes(engine):
    """Two volumes: the cache, and /tmp, so that it can be looked at after the container's end."""
    names = [f"pexdock-test-{kind}-{uuid.uuid4().hex[:12]}" for kind in ("cache", "tmp")]
    for name in names:
        docker("volume", "create", name)
    yield names
    docker("volume", "rm", "--force", *names)


@pytest.fixture(scope="module")
def folders(built_dist, trained):
    """The options that mount what the README's command mounts."""
    sources = {"dist": built_dist, "artifacts": trained.artifacts}
    return [word for name, source in sources.items() for word in ("--volume", f"{source}:{place_in_readme(name)}:ro")]


@pytest.fixture(scope="module")
def box(image, volumes, folders):
    """A ready container, as locked up as one can be: read-only but for its volumes, no capabilities, no new privileges."""
    locks = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    with started(image, *locks, *folders, "--volume", f"{volumes[0]}:/pexdock/cache", "--volume", f"{volumes[1]}:/tmp") as found:
        yield found


@contextmanager
def started(image, *options):
    """A container, once it is ready."""
    port = free_port()
    container = docker("run", "--detach", "--network", "host", "--env", f"PEXDOCK_PORT={port}", *options, image)
    try:
        wait_until(lambda: ask(port, "GET", "/readyz")[0] == 200, container, READY_WITHIN_S)
        yield SimpleNamespace(container=container, port=port)
    finally:
        docker("rm", "--force", "--volumes", container)


def place_in_readme(folder):
    """Where the README's command mounts a folder."""
    (place,) = re.findall(rf'docker run .*-v "\$PWD/{folder}:(\S+)"', (ROOT / "README.md").read_text())
    return place


class Process(NamedTuple):
    """One of a container, by its pid outside of it."""

    pid: int
    uid: int
    command: str


def processes(container):
    """All of the container's."""
    lines = docker("top", container, "-eo", "pid,uid,args").splitlines()[1:]
    return [Process(int(pid), int(uid), command) for pid, uid, command in (line.split(maxsplit=2) for line in lines)]


def test_the_image_holds_nothing_of_ours_but_the_start_script(image):
    """Base and models are not baked in, so the image changes only with Python or the start script."""
    found = docker("run", "--rm", "--network", "none", "--entrypoint", "find", image, "/pexdock", "!", "-type", "d")
    assert found.splitlines() == ["/pexdock/entrypoint.sh"]
    ours = docker(
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "python3",
        image,
        "-c",
        "import importlib.util as u; print(u.find_spec('polars'))",
    )
    assert ours == "None"


def test_it_predicts(box, trained):
    """A prediction through the container is what the model says when asked without Pexdock."""
    status, body = ask(box.port, "POST", "/predictions/iris/{run_id}/{model_id}".format(**trained.iris), json.dumps(FLOWERS))
    assert status == 200, body
    assert json.loads(body)["predictions"] == pytest.approx(example_models.iris_predictions(*trained, FLOWERS))


def test_no_process_runs_as_root(box):
    """Supervisor, front door and workers run as the image's own user."""
    assert len(processes(box.container)) >= 3
    assert {each.uid for each in processes(box.container)} == {UID}


def test_it_is_healthy(box):
    """The image's health check sees that it is ready."""
    wait_until(lambda: inspect(box.container, "{{.State.Health.Status}}") == "healthy", box.container, within_s=180)


def test_a_stop_ends_it_in_order(box, image, volumes):
    """SIGTERM ends every process with exit code 0, well before the engine would kill it, and nothing is left in /tmp."""
    running = processes(box.container)
    began = time.monotonic()
    docker("stop", "--time", 60, box.container)
    assert time.monotonic() - began < 30
    assert inspect(box.container, "{{.State.ExitCode}}") == "0"
    assert not [each for each in running if Path(f"/proc/{each.pid}").exists()]
    left = docker(
        "run", "--rm", "--network", "none", "--volume", f"{volumes[1]}:/tmp", "--entrypoint", "find", image, "/tmp", "-mindepth", "1"
    )
    assert left == ""


@pytest.mark.parametrize("doors", [1, 2])
def test_a_stop_under_load_resets_no_connection(image, volumes, built_dist, tmp_path, doors):
    """Its user has no capabilities. Clients that keep their connections and others are answered until they are refused."""
    tmp_path.chmod(0o755)
    (base,) = built_dist.glob("base-*.pex")
    os.link(base, tmp_path / base.name)
    write_tiny(tmp_path / "tiny.pex", "tiny").chmod(0o644)
    mounts = ["--volume", f"{tmp_path}:/pexdock/dist:ro", "--volume", f"{volumes[0]}:/pexdock/cache"]
    with started(image, "--cap-drop", "ALL", *mounts, "--env", f"PEXDOCK_FRONT_DOORS={doors}") as box:
        address = f"http://127.0.0.1:{box.port}"
        with LoadClients(address, "/tiny", kept=True) as keeping, LoadClients(address, "/tiny", kept=False) as others:
            wait_until(lambda: min(keeping.statuses[200], others.statuses[200]) > 500, box.container, within_s=180)
            before = keeping.statuses + others.statuses  # at a slow start one front door of two may have been without its worker
            docker("stop", "--time", 60, box.container)
            keeping.wait()
            others.wait()
    assert keeping.faults + others.faults == []
    assert set(keeping.statuses + others.statuses - before) == {200}
    assert keeping.refused == others.refused == 16


def test_a_container_of_root_runs_workers_as_whom_it_is_told(image, folders, trained):
    """They answer as ever; supervisor and front door, which hold the keys, stay out of their reach."""
    with started(image, *folders, "--user", "0", "--env", "PEXDOCK_WORKER_USER=pexdock") as box:
        status, body = ask(box.port, "POST", "/predictions/iris/{run_id}/{model_id}".format(**trained.iris), json.dumps(FLOWERS))
        assert status == 200, body
        uids = {kind: {each.uid for each in processes(box.container) if f"-m {kind} " in f"{each.command} "} for kind in MODULES}
    assert uids == {"runtime": {0}, "runtime.front": {0}, "base": {UID}}
