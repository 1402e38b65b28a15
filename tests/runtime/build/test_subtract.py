"""Tests of the distributions that a model must carry, given those of base."""

import pytest

from handmade_pexes import Wheel, base_stamp, model, sdk, write_pex
from runtime.build.project import ModelOptions
from runtime.build.subtract import select_distributions
from runtime.build.tool import BuildFailed
from runtime.pex.file import read_pex


@pytest.fixture
def distributions(tmp_path):
    def distributions(*wheels):
        return dict(read_pex(write_pex(tmp_path / "d.pex", model("zzz"), *wheels)).distributions) | {}

    return distributions


@pytest.fixture
def build(tmp_path, distributions):
    """Subtract from a base with numpy 2.4 and scikit-learn 1.9, with a lock that pins `locked`."""
    base_wheels = (
        sdk(requires=("asyncinotify>=4",)),
        Wheel("asyncinotify", "4.2"),
        Wheel("numpy", "2.4"),
        Wheel("scikit-learn", "1.9", ("numpy>=2",)),
        Wheel("pandas", "3.0", ("numpy>=2",)),
    )
    base = read_pex(write_pex(tmp_path / "base.pex", *base_wheels, stamp=base_stamp()))

    def build(requires=(), carry=(), locked=(), exclude=()):
        pins = distributions(*locked)
        found = select_distributions(
            distributions(model(requires=requires, endpoints=()))["iris"],
            base,
            ModelOptions(carry=tuple(carry), exclude=tuple(exclude)),
            lambda names: {n: pins[n] for n in names},
        )
        return {name: str(distribution.version) for name, distribution in found.items() if name != "iris"}

    return build


def refusal(build, *args, **kwargs):
    with pytest.raises(BuildFailed) as caught:
        build(*args, **kwargs)
    return caught.value.detail


def test_distributions_that_base_provides_are_left_out(build):
    """No lock is read for them."""
    assert build(["numpy>=2", "scikit-learn"]) == {}


def test_distributions_that_base_lacks_are_carried_with_their_requirements(build):
    """Requirements that base meets are left out."""
    assert build(["a"], locked=[Wheel("a", "1", ("b>=2", "numpy")), Wheel("b", "2", ("c",)), Wheel("c", "3")]) == {
        "a": "1",
        "b": "2",
        "c": "3",
    }


def test_a_conflict_names_both_sides_and_what_to_do(build):
    """All conflicts are named at once, so that nobody has to fix them one by one."""
    said = refusal(build, ["scikit-learn<1.8,>=1.7", "numpy<2"])
    for part in (
        "iris 1.0 requires scikit-learn<1.8,>=1.7",
        "base 0.1.0 provides scikit-learn 1.9",
        "--carry scikit-learn",
        "iris 1.0 requires numpy<2",
    ):
        assert part in said


def test_another_version_is_carried_on_request(build):
    """With `--carry` the model's lock says which version."""
    assert build(["scikit-learn<1.8"], ["scikit-learn"], [Wheel("scikit-learn", "1.7.2", ("numpy",))]) == {"scikit-learn": "1.7.2"}


def test_a_distribution_that_nothing_requires_may_be_carried(build):
    """A model may import a package that its metadata does not mention."""
    assert build([], ["pandas"], [Wheel("pandas", "2.2", ("numpy",))]) == {"pandas": "2.2"}


def test_distributions_of_base_must_accept_those_that_are_carried(build):
    """pandas and scikit-learn of base need numpy 2; the advice is to carry them too."""
    numpy = Wheel("numpy", "1.26")
    said = refusal(build, ["numpy<2"], ["numpy"], [numpy])
    assert "carries numpy 1.26" in said
    assert "--carry pandas" in said
    assert "--carry scikit-learn" in said
    both = [numpy, Wheel("pandas", "2.2", ("numpy",)), Wheel("scikit-learn", "1.5", ("numpy",))]
    assert build(["numpy<2"], ["numpy", "pandas", "scikit-learn"], both) == {"numpy": "1.26", "pandas": "2.2", "scikit-learn": "1.5"}


def test_a_carried_version_must_satisfy_the_model(build):
    """The lock may be older than the requirement."""
    assert "the model carries scikit-learn 1.6" in refusal(build, ["scikit-learn>=1.7"], ["scikit-learn"], [Wheel("scikit-learn", "1.6")])


def test_what_an_address_names_is_taken_from_the_lock(build):
    """Although base has a version of it: the author asked for another. pexdock itself is that of base wherever the author has it from."""
    assert build(["numpy @ git+https://example.org/numpy@main"], locked=[Wheel("numpy", "2.5")]) == {"numpy": "2.5"}
    assert build(["helper @ file:///somewhere/helper"], locked=[Wheel("helper", "1")]) == {"helper": "1"}
    assert build(["pexdock @ file:///somewhere/pexdock"]) == {}


def test_what_is_excluded_is_left_out_with_what_only_it_requires(build):
    """What something else requires stays; a name that nothing requires is a mistake."""
    locked = [Wheel("xgboost", "3", ("nccl", "other")), Wheel("nccl", "2", ("cuda",)), Wheel("other", "1")]
    assert build(["xgboost"], locked=locked, exclude=["nccl"]) == {"xgboost": "3", "other": "1"}
    assert "exclude in [tool.pexdock] names ncl, which" in refusal(
        build, ["xgboost"], locked=[*locked, Wheel("cuda", "1")], exclude=["ncl"]
    )


def test_a_requirement_that_pexdock_itself_contradicts_offers_no_way_that_cannot_be_gone(build):
    """Neither before the version is carried nor after: no model can carry what the worker's own code cannot run with."""
    for carry, locked in ([], []), (["asyncinotify"], [Wheel("asyncinotify", "3")]):
        said = refusal(build, ["asyncinotify<4"], carry, locked)
        assert "pexdock 0.1.0 itself needs asyncinotify>=4 in every worker: no model can carry another version" in said
        assert "--carry" not in said
