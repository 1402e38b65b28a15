"""Paths of models that cannot answer, and requests that arrive while paths change hands."""

from __future__ import annotations

from base.ipc.front_door_control import ReservedPath, Route, RoutingTable
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from counting_front import CountingService, serve
from rawhttp import Answer, Raw, chunked, get, post


def route(model: str, *paths: str) -> Route:
    """Returns the route of a model that has no worker, so that its requests are a 503 that names it."""
    specs = [EndpointSpec(f"e{number}", path, path.count("{") * ["x"], None, None, 64, 1) for number, path in enumerate(paths)]
    return Route(ReleaseSpec(model, "1", specs), [], f"{model} 1")


def answers(address: str, path: str) -> list[Answer]:
    """Returns the answers to one path on both ways through the front door."""
    found = []
    for request in (post(path, []), chunked(path, []), get(path)):
        with Raw(address) as raw:
            raw.send(request)
            found.append(raw.answer())
    return found


def test_a_reserved_path_is_a_503_that_names_its_model_and_no_other_model_answers_it() -> None:
    """However it is written, and although the path of another model matches it; the client is told when to try again."""

    def talk(address: str, door: CountingService) -> None:
        reserved = [ReservedPath("/m01", "m01", "starting", 7), ReservedPath("/m02/{run}", "m02", "failed")]
        door.put_in_force(RoutingTable(2, [route("any", "/{any}", "/{any}/{other}")], startup_complete=True, reserved=reserved))
        for path in ("/m01", "/%6d01", "/m01/", "/m01?x=1"):
            for answer in answers(address, path):
                assert (answer.status, answer.headers["retry-after"]) == (503, "7"), path
                assert answer.json()["detail"] == "model m01 is starting; try again later"
        for answer in answers(address, "/m02/4"):
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["detail"] == "model m02 is failed; try again later"
        plain, by_application, _ = answers(address, "/m03")
        assert {answer.json()["detail"] for answer in (plain, by_application)} == {"no worker of any is ready; try again later"}
        door.put_in_force(RoutingTable(3, [route("any", "/{any}"), route("m01", "/m01")], startup_complete=True))
        assert answers(address, "/%6d01")[0].json()["detail"] == "no worker of m01 is ready; try again later"

    serve(talk)


def test_an_unknown_path_is_a_503_while_models_may_still_describe_it() -> None:
    """It is a 404 only once all paths are known."""

    def talk(address: str, door: CountingService) -> None:
        for known, status in ((False, 503), (True, 404)):
            door.put_in_force(RoutingTable(2, [route("any", "/a")], startup_complete=False, paths_known=known))
            for answer in answers(address, "/b"):
                assert answer.status == status
                assert ("retry-after" in answer.headers) is not known
            for page in ("/livez", "/readyz"):
                with Raw(address) as raw:
                    raw.send(get(page))
                    assert raw.answer().status == (200 if page == "/livez" else 503)

    serve(talk)


def test_a_request_is_bound_to_one_model_even_if_its_path_goes_to_another_meanwhile() -> None:
    """Its head was read under a table in which the path belonged to the first model."""

    def talk(address: str, door: CountingService) -> None:
        for path, is_same in (("/plain/{name}", True), ("/{any}/{name}", False)):
            door.put_in_force(RoutingTable(2, [route("tiny", "/plain/{name}")], startup_complete=True))
            request = post("/plain/a", [])
            with Raw(address) as raw:
                raw.send(request[:-1])
                with Raw(address) as other:  # once it is answered, the front door has read the first one too
                    other.send(get("/livez"))
                    other.answer()
                new = ReleaseSpec("tiny" if is_same else "other", "2", route("", path).release.endpoints)
                door.put_in_force(RoutingTable(3, [Route(new, [], "new")], startup_complete=True))
                raw.send(request[-1:])
                answer = raw.answer()
            assert answer.status == 503
            said = "no worker of tiny is ready; try again later"
            assert answer.json()["detail"] == (said if is_same else "the model was replaced while the request arrived; try again")

    serve(talk)
