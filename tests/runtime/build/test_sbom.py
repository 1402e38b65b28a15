"""The list of what is in a pex, as those read it who look for vulnerable packages."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from handmade_pexes import Wheel, base_stamp, model, model_stamp, sdk, write_pex
from runtime.build import sbom
from runtime.pex.file import read_pex

DIGEST = "c" * 64


@pytest.fixture
def iris(tmp_path):
    numpy = Wheel("numpy", "1.26", requires=("typing-extensions",))
    wheels = (model(requires=("numpy>=1", "polars")), numpy, Wheel("typing-extensions", "4.0"), Wheel("tz.data", "2026.1"))
    return read_pex(write_pex(tmp_path / "iris.pex", *wheels, stamp=model_stamp()))


def test_it_lists_the_packages_of_the_file_and_names_the_base(iris):
    """It lists every distribution by its name in package databases, pex's own part, and the base by its digest; the model is the
    subject.
    """
    found = json.loads(sbom.sbom_json(iris, DIGEST))
    assert found["metadata"]["component"]["name"] == "iris"
    assert found["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    purls = {each["purl"] for each in found["components"] if "purl" in each}
    assert purls == {"pkg:pypi/numpy@1.26", "pkg:pypi/typing-extensions@4.0", "pkg:pypi/tz-data@2026.1", "pkg:pypi/pex@2.0"}
    (platform,) = (each for each in found["components"] if each["type"] == "platform")
    assert (platform["name"], platform["version"], platform["hashes"][0]["content"]) == ("pexdock", "0.1.0", "a" * 64)


def test_it_lists_the_dependencies(iris):
    """They are those of the metadata; every package in the file is a dependency of the model."""
    needs = {each["ref"]: set(each.get("dependsOn", ())) for each in json.loads(sbom.sbom_json(iris, DIGEST))["dependencies"]}
    assert needs["numpy==1.26"] == {"typing-extensions==4.0"}
    assert needs["iris==1.0"] >= {"numpy==1.26", "tz-data==2026.1", "base:pexdock==0.1.0"}
    assert needs["typing-extensions==4.0"] == set()


def test_the_same_file_gives_the_same_bytes_and_another_file_another_number(iris, tmp_path):
    """The document contains neither times nor paths."""
    text = sbom.sbom_json(iris, DIGEST)
    copy = write_pex(
        tmp_path / "iris-copy.pex",
        model(requires=("numpy>=1", "polars")),
        Wheel("tz.data", "2026.1"),
        Wheel("typing-extensions", "4.0"),
        Wheel("numpy", "1.26", requires=("typing-extensions",)),
        stamp=model_stamp(),
    )
    assert sbom.sbom_json(read_pex(copy), DIGEST) == text
    assert str(tmp_path) not in text
    assert json.loads(sbom.sbom_json(iris, "d" * 64))["serialNumber"] != json.loads(text)["serialNumber"]


def test_it_is_valid_by_the_standard(iris, tmp_path):
    """The document of a model, of a base, and of a model that was built by hand and contains the SDK, is valid."""
    base = read_pex(write_pex(tmp_path / "base.pex", sdk(requires=("polars",)), Wheel("polars", "2.0"), stamp=base_stamp()))
    fat = read_pex(write_pex(tmp_path / "fat.pex", model(), sdk(), stamp=model_stamp()))
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for found in (iris, base, fat):
        assert validator.validate_str(sbom.sbom_json(found, DIGEST)) is None
    assert json.loads(sbom.sbom_json(base, DIGEST))["metadata"]["component"]["name"] == "pexdock"


def test_it_is_written_atomically_beside_the_pex(iris, tmp_path):
    """It replaces an earlier document."""
    target = tmp_path / "iris.pex.cdx.json"
    target.write_text("old")
    sbom.write_sbom(iris, DIGEST, target)
    assert json.loads(target.read_text())["bomFormat"] == "CycloneDX"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iris.pex", "iris.pex.cdx.json"]
