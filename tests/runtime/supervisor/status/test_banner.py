"""The announcement once everything in dist/ is ready or refused."""

from base.ipc.front_door_control import Route
from base.ipc.release_spec import EndpointSpec, Example, ReleaseSpec
from runtime.supervisor.status.banner import announce
from runtime.supervisor.status.state import ModelReport, ReleaseReport, State


def test_the_announcement_has_models_paths_one_command_and_problems():
    """A release whose worker is down is not announced as served."""
    example = Example({"key": "a b/c"}, [{"x": "it's"}])
    words = ReleaseSpec("iris", "0.1", [EndpointSpec("predict", "/iris/{key}", ["key"], None, None, 1, 1, example)])
    broken = ReleaseReport(file="b.pex", state="refused", since="", reason="no zip")
    state = State(
        dist_path="d", address="http://127.0.0.1:8080", releases=[broken, ReleaseReport(file="iris.pex", state="ready", since="")]
    )
    text = announce(state, [Route(words, ["/w1.sock"]), Route(ReleaseSpec("rose", "1", []), [])])
    assert "serves 1 model at http://127.0.0.1:8080" in text
    assert "iris 0.1: POST /iris/{key}" in text
    assert "b.pex is refused: no zip" in text
    assert "rose" not in text
    assert "http://127.0.0.1:8080/iris/a%20b%2Fc" in text.splitlines()[-1]
    assert announce(state, []).count("curl") == 0
    assert "To serve a model, put its pex into d" in announce(state, [])
    assert "mounted" not in announce(state, [])


def test_the_command_is_a_short_one():
    """The first of the examples with the fewest rows; one with many rows cannot be read."""
    rows = {"/long": 16, "/short": 1, "/other": 1}
    endpoints = [EndpointSpec(path, path, [], None, None, 1, 1, Example({}, [{"x": 1}] * count)) for path, count in rows.items()]
    text = announce(State(dist_path="d", address="http://x"), [Route(ReleaseSpec("iris", "0.1", endpoints), ["/w1.sock"])])
    assert text.splitlines()[-1].startswith("Try: curl -s http://x/short ")


def test_an_empty_dist_after_models_have_served_may_be_a_missing_mount():
    """The policies of the models are still there."""
    text = announce(State(dist_path="d", address="http://x", models=[ModelReport(name="iris")]), [])
    assert "d has no pex, although models have served from it before: is dist_path mounted?" in text
