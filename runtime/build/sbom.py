"""Writes the SBOM of a pex: a CycloneDX document beside it, which shows where a vulnerable package is in use.

It is made from the pex alone and contains neither times nor paths, so that the same file gives the same document, byte for byte.
"""

from __future__ import annotations

import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from runtime.atomic_file import write_atomically
from runtime.pex.distribution import Distribution
from runtime.pex.file import SDK, PexFile
from runtime.pex.requirements import active_requirements

_SERIALS = uuid.UUID("5e1bf1a6-55a4-4f3c-8c0e-7d3c4f0d2f6e")
"""A random constant; the serial number of a document follows from it and the digest of the pex."""


def write_sbom(found: PexFile, sha256: str, target: Path) -> None:
    """Writes the document atomically.

    Args:
        found: The pex.
        sha256: Digest of its file.
        target: The file to write; other tools recognize it by a name that ends with `.cdx.json`.
    """
    write_atomically(target, sbom_json(found, sha256).encode())


def sbom_json(found: PexFile, sha256: str) -> str:
    """Returns the document as JSON.

    Its subject is the model, or the SDK in a base. Its components are the other distributions in the file, pex's own part of it, and for a
    model the base that it was built on, whose own document lists the other packages that the model runs with.
    """
    libraries = {name: _library(each) for name, each in found.distributions.items() if name != found.name}
    subject = _subject(found, sha256)
    parts = [*libraries.values(), *_surroundings(found)]
    bom = Bom(components=parts, metadata=BomMetaData(component=subject), serial_number=uuid.uuid5(_SERIALS, sha256))
    bom.metadata.timestamp = None  # type: ignore[assignment]  # the schema needs none
    own = {**libraries, found.name: subject}
    for name, component in own.items():
        needed = {requirement.name for requirement in active_requirements(found.distributions[name])}
        bom.register_dependency(component, [own[each] for each in sorted(needed & own.keys() - {name})])
    # Each part is in the file, whether the subject's own requirements lead to it or not.
    bom.register_dependency(subject, parts)
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    return text + "\n"


def _subject(found: PexFile, sha256: str) -> Component:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    ref = f"{found.name}=={found.version}"
    return Component(name=found.name, version=found.version, type=ComponentType.APPLICATION, hashes=hashes, bom_ref=ref)


def _library(found: Distribution) -> Component:
    version = str(found.version)
    return Component(
        name=found.name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", None, found.name, version),
        bom_ref=f"{found.name}=={version}",
    )


def _surroundings(found: PexFile) -> Iterator[Component]:
    with zipfile.ZipFile(found.path) as archive:
        properties = json.loads(archive.read("PEX-INFO")).get("build_properties", {})
    if version := properties.get("pex_version"):
        purl = PackageURL("pypi", None, "pex", version)
        yield Component(name="pex", version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=f"pex=={version}")
    if found.stamp is not None and found.stamp.base is not None:
        base = found.stamp.base
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=base.sha256)] if base.sha256 else []
        ref = f"base:{SDK}=={base.version}"  # a pex that was built by hand may also contain the SDK
        yield Component(name=SDK, version=base.version, type=ComponentType.PLATFORM, hashes=hashes, bom_ref=ref)
