"""Descendants of the supervisor that nobody else waits for are reaped, in turns that their number makes no longer."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import asyncio, json, os, signal
from runtime.supervisor.host import process_tree

looks = [0]
is_zombie = process_tree._is_zombie_of_other_session

def counted(pid, session):
    looks[-1] += 1
    return is_zombie(pid, session)

class Counted(process_tree.ZombieReaper):
    def _reap(self):
        looks.append(0)
        super()._reap()

def start(*words):
    return os.posix_spawnp(words[0], words, os.environ, setsid=True)

def are_gone(pids):
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)

async def main():
    process_tree._is_zombie_of_other_session, process_tree._SEEN_MAX, process_tree._PAUSE_S = counted, 10, 0.01
    living = [start("sleep", "600") for _ in range(35)]
    own = start("true")
    reaper = Counted(lambda: {own}, lambda: None)
    reaper.start()
    for _ in range(3):
        ended = [start("true") for _ in range(15)]
        while not are_gone(ended):
            await asyncio.sleep(0.01)
    reaper.stop()
    print(json.dumps({"most": max(looks), "living": not are_gone(living[:1]), "own": os.waitpid(own, 0) == (own, 0)}))
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

asyncio.run(main())
"""


def test_one_search_looks_at_no_more_than_so_many_processes_and_the_next_goes_on() -> None:
    """Behind many that live on, all that end are found, whenever they do. A child that is waited for elsewhere is left alone."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"most": 10, "living": True, "own": True}
