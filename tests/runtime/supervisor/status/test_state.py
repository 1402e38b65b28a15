"""The names of the state in JSON."""

import json

import msgspec

from runtime.supervisor.status.state import State

STATE_OF_0_1_0 = {
    "dist_path": "/srv/dist",
    "dist_url": "",
    "dist_reason": "",
    "pid": 7,
    "address": "http://127.0.0.1:8080",
    "admin_address": "",
    "started": "2025-11-02T09:00:00+00:00",
    "generation": 4,
    "applied": 3,
    "settled": True,
    "waits_for": [],
    "front_door_pids": [8],
    "front_doors": [],  # since 0.2.0, as are "waits_for" and "addresses"
    "addresses": [],
    "releases": [
        {
            "file": "iris-0.2.0.pex",
            "order": 1,
            "state": "ready",
            "since": "2025-11-02T09:00:01+00:00",
            "kind": "model",
            "name": "iris",
            "version": "0.2.0",
            "sha256": "b",
            "base_version": "0.1.0",
            "reason": "",
            "log": [],
            "warnings": [],
            "paths": ["/iris"],
            "worker_pids": [9],
            "restarts": 0,
            "job_worker_pids": [],  # since 0.2.0
        }
    ],
    "models": [
        {
            "name": "iris",
            "state": "ready",
            "reason": "",
            "serves": [{"version": "0.2.0", "sha256": "b", "percent": 100.0}],
            "wanted": [{"version": "0.2.0", "sha256": "b", "percent": 100.0}],
            "pin": "",
            "split": {},
            "by": "",
            "labels": {"canary": "0.3.0"},
            "shadow": "canary",
            "shadow_percent": 10.0,
            "shadow_sha256": "c",
            "shadow_in_force": True,
            "comparison": {
                "version": "0.3.0",
                "requests": 4,
                "equal": 3,
                "failed": 0,
                "skipped": 1,
                "deviation_max": 0.5,
                "ms_mean": 1.5,
                "ms_copies_mean": 2.5,
            },
            "previous": {"version": "0.1.0", "sha256": "a", "until": "2025-11-02T09:05:00+00:00"},
            "probation": [{"version": "0.2.0", "until": "2025-11-02T09:01:00+00:00", "answered": 5, "failed": 1, "deaths": 2}],
            "taken_back": [{"version": "0.0.1", "sha256": "0", "reason": "it crashed"}],
            "remarks": [],
            "history": [{"at": "2025-11-02T09:00:01+00:00", "what": "0.2.0 (b)", "why": "it is the first"}],
        }
    ],
}


def test_the_state_has_the_names_of_pexdock_0_1_0():
    """Programs read them from `pexdock models --json`, from the state file and from the admin API."""
    state = msgspec.json.decode(json.dumps(STATE_OF_0_1_0), type=State)
    (model,) = state.models
    assert (state.applied_generation, state.startup_complete) == (3, True)
    assert (model.serving[0].version, model.desired[0].version, model.warm_standby.version) == ("0.2.0", "0.2.0", "0.1.0")
    assert (model.mirror.primary_ms_mean, model.mirror.mirror_ms_mean) == (1.5, 2.5)
    assert (model.probation[0].crash_count, model.rolled_back[0].reason) == (2, "it crashed")
    assert json.loads(msgspec.json.encode(state)) == STATE_OF_0_1_0
