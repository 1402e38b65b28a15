"""Tests of a model against a base: refusals, warnings and their messages."""

import platform

import pytest

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from handmade_pexes import Wheel, base_stamp, model, model_stamp, sdk, write_pex
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import read_pex

HERE = ".".join(platform.python_version_tuple()[:2])


@pytest.fixture
def base(tmp_path):
    wheels = (
        sdk(),
        Wheel("numpy", "2.4.6"),
        Wheel("scikit-learn", "1.9.1", ("numpy>=2",)),
        Wheel("uvicorn", "0.5", ('uvloop; extra == "fast"',)),
    )
    return read_pex(write_pex(tmp_path / "base-0.1.0.pex", *wheels, stamp=base_stamp()))


@pytest.fixture
def check(tmp_path, base):
    def check(*wheels, base_sha256=None, **kwargs):
        return check_pex(read_pex(write_pex(tmp_path / "iris.pex", *wheels, **kwargs)), base, base_sha256=base_sha256)

    return check


def refusal(check, *wheels, **kwargs):
    with pytest.raises(PexRefused) as caught:
        check(*wheels, **kwargs)
    assert "iris.pex" in caught.value.detail
    return caught.value.detail


def test_base_meets_the_requirements_of_a_model(check):
    """A model that requires packages of base in their versions gives no warning."""
    assert check(model(requires=("numpy>=2", "scikit_learn<2")), stamp=model_stamp()) == []


def test_a_conflict_names_both_sides_and_what_to_do(check):
    """The message names the requirement, the version of base, and how to carry another version."""
    said = refusal(check, model(requires=("scikit-learn (>=1.7,<1.8)",)))
    for part in ("iris 1.0 requires scikit-learn<1.8,>=1.7", "base 0.1.0 provides scikit-learn 1.9.1", "--carry scikit-learn"):
        assert part in said


def test_a_missing_requirement_is_named(check):
    """A requirement of a package that the model carries is named too."""
    assert "attrs 1.0 requires lightgbm" in refusal(check, model(requires=("attrs",)), Wheel("attrs", requires=("lightgbm",)))


def test_packages_of_the_model_come_before_those_of_base(check):
    """Its own older version meets the requirement; that of base would not."""
    assert check(model(requires=("scikit-learn<1.8",)), Wheel("scikit-learn", "1.7.2")) == []


def test_requirements_of_extras_count_when_asked_for(check):
    """`uvicorn[fast]` needs uvloop, plain uvicorn does not."""
    assert check(model(requires=("uvicorn",))) == []
    assert "uvicorn 0.5 requires uvloop" in refusal(check, model(requires=("uvicorn[fast]",)))


def test_requirements_for_other_platforms_do_not_count(check):
    """Their markers do not hold here."""
    assert check(model(requires=('pywin32; sys_platform == "win32"', 'dev-tool; extra == "dev"'))) == []


def test_a_pre_release_in_base_meets_a_requirement(tmp_path):
    """A pre-release that is pinned is meant."""
    base = read_pex(write_pex(tmp_path / "b.pex", sdk(), Wheel("numpy", "3.0rc1")))
    assert check_pex(read_pex(write_pex(tmp_path / "iris.pex", model(requires=("numpy>=2",)))), base) == []


@pytest.mark.parametrize("constraints", [(f"CPython=={HERE}.*",), (f">={HERE}",), ("PyPy>=3", f"CPython>={HERE}"), ()])
def test_an_interpreter_needs_to_meet_one_constraint(check, constraints):
    """Constraints are alternatives, with or without the name of the implementation."""
    assert check(model(), constraints=constraints) == []


@pytest.mark.parametrize("constraints", [("CPython==3.8.*",), (f"PyPy=={HERE}.*",), ("no constraint at all",)])
def test_another_interpreter_is_refused(check, constraints):
    """The message names the constraint of the file."""
    assert constraints[0] in refusal(check, model(), constraints=constraints)


@pytest.mark.parametrize("tag", ["cp38-cp38-manylinux_2_17_x86_64", "py3-none-win_amd64", "cp311-cp311-macosx_11_0_arm64"])
def test_a_wheel_for_another_platform_is_refused(check, tag):
    """The tags of a wheel say where it runs."""
    assert f"it contains attrs 1.0 for another interpreter or machine ({tag})" in refusal(check, model(), Wheel("attrs", tag=tag))


def test_another_wire_version_is_refused_with_the_side_that_is_older(check):
    """The message says what to do."""
    assert "older" in refusal(check, model(), stamp=model_stamp(wire=WIRE_VERSION - 1))
    assert "newer" in refusal(check, model(), stamp=model_stamp(wire=WIRE_VERSION + 1))


def test_carrying_packages_of_base_is_a_warning_with_their_size(check):
    """The model serves, and its owner learns how much could be saved."""
    (warning,) = check(model(), Wheel("numpy", "2.4.6", files={"numpy/core.py": "x"}))
    assert "numpy" in warning
    assert "MB smaller" in warning


def test_an_own_sdk_of_another_version_is_a_warning(check):
    """The worker runs on the SDK that the model carries."""
    (warning,) = check(model(), sdk("0.0.9"))
    assert "carries pexdock 0.0.9" in warning


def test_a_carried_version_that_base_does_not_accept_is_a_warning(check):
    """scikit-learn of base requires numpy>=2; a model that carries numpy 1.26 may never use it."""
    (warning,) = check(model(), Wheel("numpy", "1.26.4"))
    assert "scikit-learn 1.9.1 requires numpy>=2" in warning


def test_a_base_that_was_rebuilt_is_a_warning(check):
    """It has the same version and another digest, and meets the requirements."""
    assert check(model(), stamp=model_stamp(sha256="a" * 64), base_sha256="a" * 64) == []
    (warning,) = check(model(), stamp=model_stamp(sha256="a" * 64), base_sha256="b" * 64)
    assert "was built on a base 0.1.0 other than" in warning


def test_the_stamped_base_is_chosen_or_else_the_newest(tmp_path):
    """Versions are compared as versions: 0.10 is newer than 0.9."""
    bases = [read_pex(write_pex(tmp_path / f"base-{version}.pex", sdk(version))) for version in ("0.9", "0.10", "0.1.0")]
    assert choose_base(read_pex(write_pex(tmp_path / "a.pex", model(), stamp=model_stamp(base="0.1.0"))), bases).version == "0.1.0"
    assert choose_base(read_pex(write_pex(tmp_path / "b.pex", model())), bases).version == "0.10"


def test_a_missing_base_is_named(tmp_path, base):
    """The message names the file to add, and those that are there."""
    with pytest.raises(PexRefused, match=r"base-0\.2\.0\.pex.*base-0\.1\.0\.pex"):
        choose_base(read_pex(write_pex(tmp_path / "a.pex", model(), stamp=model_stamp(base="0.2.0"))), [base])
    with pytest.raises(PexRefused, match="pexdock build base"):
        choose_base(read_pex(write_pex(tmp_path / "a.pex", model())), [])
