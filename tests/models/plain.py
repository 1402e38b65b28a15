"""A model that starts processes as any program does, and says at `/plain` what it finds. Its functions also run in a plain process."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MASKS = ("SigBlk", "SigIgn", "SigCgt")
AT_IMPORT = {"argv": sys.argv[1:], "handlers": [str(signal.getsignal(signal.SIGTERM))]}


def read_masks(status):
    """Without the two signals that the C library keeps for itself."""
    return {name: int(line.split()[1], 16) & 0x7FFFFFFF for line in status.splitlines() for name in MASKS if line.startswith(name)}


def masks():
    return read_masks(Path("/proc/self/status").read_text())


def say_masks(pipe):
    pipe.send(masks())


def masks_of_fork():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(masks()).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 10_000))


def masks_by(method):
    context = multiprocessing.get_context(method)
    reading, writing = context.Pipe()
    process = context.Process(target=say_masks, args=(writing,))
    process.start()
    found = reading.recv()
    process.join()
    return found


def masks_by_fork():
    return masks_by("fork")


def masks_by_spawn():
    return masks_by("spawn")


def masks_by_forkserver():
    return masks_by("forkserver")


def masks_of_program():
    return read_masks(subprocess.run(["cat", "/proc/self/status"], check=True, capture_output=True, text=True).stdout)


def terminated_at_once():
    """Without a pause: the child has hardly begun."""
    context, codes = multiprocessing.get_context("fork"), []
    for _ in range(20):
        process = context.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
        codes.append(process.exitcode)
    return sorted(set(codes))


def pool_left():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.apply_async(time.sleep, (600,))
        time.sleep(0.2)
    return "left"


def exit_codes():
    """Of children that come back from here, too: they end as a plain program would."""
    codes = []
    for code in (0, 3):
        pid = os.fork()
        if pid == 0:
            sys.exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    pid = os.fork()
    if pid == 0:
        raise ValueError("only in the child")
    return [*codes, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def program_codes():
    return [subprocess.run(["sh", "-c", f"exit {code}"], check=False).returncode for code in range(50)]


def sockets_of_fork():
    """What a forked child holds that is no plain file or pipe."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        fds = Path("/proc/self/fd")
        links = [str(each.readlink()) for each in fds.iterdir() if each.is_symlink()]  # the one of the list itself is closed already
        os.write(writing, json.dumps([link for link in links if not link.startswith(("/", "pipe:"))]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 10_000))


def orphans():
    """Leaves grandchildren behind: some in the session of the worker, some in one of their own."""
    pids = []
    for number in range(50):
        shell = "sleep 0.1 & echo $!" if number % 2 else "setsid sleep 0.1 >/dev/null & echo $!"
        pids.append(int(subprocess.run(["sh", "-c", shell + "; exit"], check=True, stdout=subprocess.PIPE, text=True).stdout))
    return pids


def own_variables():
    return sorted(name for name in os.environ if name.startswith("PEXDOCK_"))


def at_import():
    return AT_IMPORT


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]]()))
else:
    import polars as pl

    import base.service as svc
    from base.schema import Schema

    @svc.endpoint(path="/plain", batch_max_size=1)
    def does(records_df: pl.DataFrame):
        return [json.dumps(globals()[records_df["do"][0]]())]

    class Texts(Schema):
        text: pl.String

    LATER: list = []

    @svc.endpoint(path="/reads-later", warm_up=False)
    def reads_later(records_df: Texts.DataFrame):
        """The first request leaves a child that reads its rows when the last request, of one row, asks for them."""
        if len(records_df) == 1:
            go, answer = LATER
            os.write(go, b"x")
            return [os.read(answer, 1000).decode()]
        if not LATER:
            (waiting, go), (answer, writing) = os.pipe(), os.pipe()
            if os.fork() == 0:
                os.read(waiting, 1)
                texts = records_df["text"]
                os.write(writing, f"{texts[0][:5]} {texts[-1][:5]}".encode())
                os._exit(0)
            LATER[:] = go, answer
        return ["" for _ in range(len(records_df))]

    predict = [does, reads_later]
