"""Releases in any state, as the pure parts of the supervisor see them."""

from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import ReleaseState

STATES = {state.value: state for state in ReleaseState}


def release(title, order=0, state="standby", *, ready=False, paths=(), file=None, **more):
    """Returns a release in a state, such as `iris 0.1.0`."""
    name, version = title.split()
    made = Release(file or f"{name}-{version}.pex", order, **more)
    made.identity = Identity("model", name, version, f"{title}{file}")
    made.machine.state = STATES[state]
    made.was_ready = ready
    if ready or paths:
        made.spec = ReleaseSpec(name, version, [EndpointSpec(path, path, [], None, None, 1, 1) for path in paths])
    return made
