"""What a worker can see and do on its machine, tested with workers that a real supervisor started."""

import asyncio
import json
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from runtime.supervisor.processes.child import Child, ProcessSpec
from runtime.supervisor.processes.sandbox import Sandbox, User, scratch_root
from supervisor_harness import Supervised
from tinypex import times, write_tiny

TELLS = """
    import json, os, pathlib, resource, tempfile
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/NAME")
    def predict(records_df: pl.DataFrame):
        made = pathlib.Path(tempfile.mkdtemp()) / "file"
        made.write_text("mine")
        status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
        said = dict(env=dict(os.environ), made=str(made), mode=made.stat().st_mode, uid=os.getuid(), gid=os.getgid(), groups=os.getgroups(),
            no_new_privs=int(status["NoNewPrivs"]), data=resource.getrlimit(resource.RLIMIT_DATA)[0])
        return [json.dumps(said)] * len(records_df)
"""

ASKS_FOR = """
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/greedy")
    def predict(records_df: pl.DataFrame):
        return [len(bytearray(records_df["x"][0] * 2**20))] * len(records_df)
"""

DIES_FOR_WANT = """
    import ctypes, sys
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/dies")
    def predict(records_df: pl.DataFrame):
        print("memory allocation of 1 bytes failed", file=sys.stderr, flush=True)
        ctypes.CDLL(None).abort()
"""


@pytest.fixture
def supervised(tmp_path):
    return Supervised(tmp_path, scratch_path=tmp_path / "scratch")


def tell(supervised, name):
    """Returns what the worker of a model reports about itself."""
    return json.loads(supervised.predictions(f"/{name}")[0])


def test_a_worker_inherits_the_usual_variables_and_those_named_for_it(supervised, monkeypatch):
    """It gets no secret of another model, no variable without need, and of Pexdock's settings only the paths of files."""
    given = {"DB_PASSWORD": "of all", "ONE_SECRET": "of one", "TWO_SECRET": "of two", "OTHER": "of nobody", "AWS_REGION": "nowhere-1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    supervised.settings |= {"worker_env": "DB_*, one:ONE_SECRET two:*_SECRET"}
    for name in ("one", "two"):
        write_tiny(supervised.dist / f"{name}.pex", name, module=TELLS.replace("NAME", name))
    with supervised:
        one, two = (tell(supervised, name)["env"] for name in ("one", "two"))
    assert {name: value for name, value in one.items() if name in given} == {
        name: given[name] for name in ("DB_PASSWORD", "ONE_SECRET", "AWS_REGION")
    }
    assert {name for name in two if name in given} == {"DB_PASSWORD", "ONE_SECRET", "TWO_SECRET", "AWS_REGION"}
    assert one["PATH"] == os.environ["PATH"]
    assert {name for name in one if name.startswith("PEXDOCK_")} == {"PEXDOCK_ARTIFACTS_PATH", "PEXDOCK_CACHE_PATH"}


def test_a_worker_has_a_temporary_scratch_folder_and_cannot_gain_privileges(supervised):
    """The folder and its files are closed to others, and a restart begins with an empty one."""
    scratch = supervised.settings["scratch_path"]
    write_tiny(supervised.dist / "one.pex", "one", module=TELLS.replace("NAME", "one"))
    with supervised:
        said = tell(supervised, "one")
        made = Path(said["made"])
        assert made.read_text() == "mine"
        assert made.parent.parent.parent == scratch
        assert (stat.S_IMODE(said["mode"]), stat.S_IMODE(made.parent.parent.stat().st_mode)) == (0o600, 0o700)
        assert said["no_new_privs"] == 1
        (pid,) = supervised.release("one.pex")["worker_pids"]
        os.kill(pid, 9)
        supervised.until(lambda: not made.exists())
        supervised.until(lambda: supervised.predictions("/one") != [503])
        assert len(list(scratch.iterdir())) == 1
        supervised.process.kill()
        supervised.process.wait()
    assert list(scratch.iterdir())
    with supervised:
        assert len(list(scratch.iterdir())) == 1
    assert not scratch.exists()


@pytest.mark.parametrize("home", [None, "/missing", "/etc/passwd"])
def test_a_worker_has_a_name_and_a_home_in_which_it_can_write(supervised, monkeypatch, home):
    """Libraries ask for them, and a container may give neither."""
    for name in ("USER", "LOGNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    write_tiny(supervised.dist / "one.pex", "one", module=TELLS.replace("NAME", "one"))
    with supervised:
        said = tell(supervised, "one")
        assert said["env"]["USER"] == said["env"]["LOGNAME"] == pwd.getpwuid(os.getuid()).pw_name
        assert said["env"]["HOME"] == said["env"]["TMPDIR"] == str(Path(said["made"]).parent.parent)


def test_the_number_of_an_unknown_user_is_its_name(monkeypatch):
    """As in a container that runs as an arbitrary user."""
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert Sandbox(Path("/scratch")).environment_for("one", {"HOME": "/"}) == {"HOME": "/", "USER": "54321", "LOGNAME": "54321"}
    assert Sandbox(Path("/scratch")).environment_for("one", {"USER": "somebody"})["LOGNAME"] == "somebody"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may start processes of others")
def test_a_process_of_another_user_reads_only_its_own_scratch_folder(tmp_path):
    """It is a shell, which every user may run."""
    secret = tmp_path / "secret"
    secret.write_text("ours")
    secret.chmod(0o600)
    open_to_others(tmp_path)
    with scratch_root(tmp_path / "scratch", shared=True) as path:
        confinement = Sandbox(path, user=User.look_up("nobody"))
        folder = confinement.create_scratch_folder("w1")
        script = f"id -u; id -G; cat {secret}; touch {folder}/mine && ls {folder}; ls {path}; exec 0<&-"
        tail = asyncio.run(output_of(["/bin/sh", "-c", script], confinement.user))
        assert tail[0] == str(confinement.user.uid)
        assert "0" not in tail[1].split()
        assert "Permission denied" in tail[2]
        assert tail[3] == "mine"
        assert "Permission denied" in tail[4]
    assert not path.exists()


async def output_of(command, user):
    """Returns what a child process of that user prints."""
    spec = ProcessSpec(command, {"PATH": os.environ["PATH"]}, user=user)
    child = Child("child", spec, lambda _: None, lambda _: None)
    child.start()
    await asyncio.wait_for(child.exited.wait(), 20)
    return child.output.tail.last_lines(10)


def open_to_others(folder):
    """Opens pytest's folders, which otherwise only the user who runs it can read."""
    for each in [folder, *list(folder.parents)[:-2]]:
        each.chmod(each.stat().st_mode | 0o011)


def others_may_run(path):
    return all(each.stat().st_mode & 0o001 for each in [path, *path.parents])


@pytest.mark.skipif(
    os.getuid() != 0 or not others_may_run(Path(sys.executable).resolve()),
    reason="needs root, and an interpreter that others can run",
)
def test_a_worker_may_run_as_another_user(supervised, tmp_path):
    """It is not root, and requests are answered as usual; what it leaves behind is removed with it."""
    open_to_others(tmp_path)
    supervised.settings |= {"worker_user": "nobody"}
    write_tiny(supervised.dist / "one.pex", "one", module=TELLS.replace("NAME", "one"))
    with supervised:
        said = tell(supervised, "one")
        made = Path(said["made"])
        assert (said["uid"], said["env"]["USER"]) == (made.stat().st_uid, "nobody")
        assert said["uid"] != 0
        assert 0 not in said["groups"]
    assert not made.exists()


def test_an_unknown_user_is_refused_at_the_start(supervised):
    """The message is one line."""
    supervised.settings |= {"worker_user": "no-such-user"}
    supervised.start()
    assert supervised.process.wait(20) == 1
    assert "worker_user" in supervised.err.read_text()
    assert "Traceback" not in supervised.err.read_text()


def test_a_worker_gets_no_more_memory_than_its_limit(supervised):
    """Its handler gets a MemoryError, its request fails, and the same process answers all others."""
    supervised.settings |= {"worker_max_bytes": "2GB"}
    write_tiny(supervised.dist / "greedy.pex", "greedy", module=ASKS_FOR)
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with supervised:
        (pid,) = supervised.release("greedy.pex")["worker_pids"]
        assert supervised.predictions("/greedy", 1) == [2**20]
        assert supervised.predictions("/greedy", 3000) == [500]
        assert supervised.predictions("/greedy", 1) == [2**20]
        assert supervised.predictions("/tiny") == [6]
        assert supervised.release("greedy.pex")["worker_pids"] == [pid]


def test_a_worker_that_dies_of_its_memory_limit_names_the_limit(supervised):
    """Libraries abort where Python would raise an error; the reason then names the setting."""
    supervised.settings |= {"worker_max_bytes": "2GB"}
    write_tiny(supervised.dist / "dies.pex", "dies", module=DIES_FOR_WANT)
    with supervised:
        supervised.ask("/dies")
        supervised.until(lambda: "its memory limit is 2000 MB (worker_max_bytes)" in supervised.release("dies.pex")["reason"])
