"""What a model must carry, given what base provides."""

import pytest

from handmade_pexes import Wheel, base_stamp, model, sdk, write_pex
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
    base_wheels = (sdk(), Wheel("numpy", "2.4"), Wheel("scikit-learn", "1.9", ("numpy>=2",)), Wheel("pandas", "3.0", ("numpy>=2",)))
    base = read_pex(write_pex(tmp_path / "base.pex", *base_wheels, stamp=base_stamp()))

    def build(requires=(), carry=(), locked=()):
        pins = distributions(*locked)
        found = select_distributions(
            distributions(model(requires=requires, endpoints=()))["iris"], base, carry, lambda names: {n: pins[n] for n in names}
        )
        return {name: str(distribution.version) for name, distribution in found.items() if name != "iris"}

    return build


def refusal(build, *args, **kwargs):
    with pytest.raises(BuildFailed) as caught:
        build(*args, **kwargs)
    return caught.value.detail


def test_what_base_provides_is_left_out(build):
    """And no lock is asked for anything."""
    assert build(["numpy>=2", "scikit-learn"]) == {}


def test_what_base_lacks_is_carried_with_all_that_it_needs_in_turn(build):
    """But without what of that base provides."""
    assert build(["a"], locked=[Wheel("a", "1", ("b>=2", "numpy")), Wheel("b", "2", ("c",)), Wheel("c", "3")]) == {
        "a": "1",
        "b": "2",
        "c": "3",
    }


def test_a_conflict_names_both_sides_and_the_ways_out(build):
    """All conflicts at once, so that nobody fixes them one by one."""
    said = refusal(build, ["scikit-learn<1.8,>=1.7", "numpy<2"])
    for part in (
        "iris 1.0 requires scikit-learn<1.8,>=1.7",
        "base 0.1.0 provides scikit-learn 1.9",
        "--carry scikit-learn",
        "iris 1.0 requires numpy<2",
    ):
        assert part in said


def test_an_own_version_is_carried_when_asked_for(build):
    """`--carry`: the model's lock says which."""
    assert build(["scikit-learn<1.8"], ["scikit-learn"], [Wheel("scikit-learn", "1.7.2", ("numpy",))]) == {"scikit-learn": "1.7.2"}


def test_a_name_may_be_carried_that_nothing_requires(build):
    """Somebody imports it without saying so."""
    assert build([], ["pandas"], [Wheel("pandas", "2.2", ("numpy",))]) == {"pandas": "2.2"}


def test_what_stays_in_base_must_accept_what_is_carried(build):
    """pandas and scikit-learn of base are built on numpy 2; the way out carries them too."""
    numpy = Wheel("numpy", "1.26")
    said = refusal(build, ["numpy<2"], ["numpy"], [numpy])
    assert "carries numpy 1.26" in said
    assert "--carry pandas" in said
    assert "--carry scikit-learn" in said
    both = [numpy, Wheel("pandas", "2.2", ("numpy",)), Wheel("scikit-learn", "1.5", ("numpy",))]
    assert build(["numpy<2"], ["numpy", "pandas", "scikit-learn"], both) == {"numpy": "1.26", "pandas": "2.2", "scikit-learn": "1.5"}


def test_a_carried_version_must_satisfy_the_model(build):
    """A lock that was made before the requirement changed."""
    assert "the model carries scikit-learn 1.6" in refusal(build, ["scikit-learn>=1.7"], ["scikit-learn"], [Wheel("scikit-learn", "1.6")])


def test_a_path_to_pexdock_says_how_to_declare_it(build):
    """What `[tool.poetry.dependencies] pexdock = {path = ...}` leaves in the wheel."""
    said = refusal(build, ["pexdock @ file:///somewhere/pexdock"])
    assert "[tool.poetry.group.base.dependencies]" in said
    assert 'pexdock = { path = "../..", develop = true }' in said


def test_an_address_of_anything_else_is_refused(build):
    """A lock has no hash of it that holds tomorrow."""
    assert "require a version" in refusal(build, ["lightgbm @ https://example.org/lightgbm.whl"])
