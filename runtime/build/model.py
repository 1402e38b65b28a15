"""`pexdock build model`: builds a model's pex without the packages that base provides."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from packaging.utils import canonicalize_name

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from runtime.build.fingerprint import model_fingerprint
from runtime.build.lock import Pin, download_wheels, export_pins
from runtime.build.pack import BuildRequest, BuiltPex, build_or_reuse, output_path, run_pex
from runtime.build.subtract import select_distributions
from runtime.build.tool import BuildFailed, Steps
from runtime.build.wheel import build_wheel, read_pyproject, read_wheel, read_wheels
from runtime.pex.distribution import ENDPOINT_GROUP, Distribution
from runtime.pex.file import BaseStamp, PexFile, Stamp, read_pex, read_stamp, refuse_reserved_modules
from runtime.pex.locks import Report
from runtime.pex.unpack import file_sha256

START_MODULE = "pexdock_start"
"""A module outside of the model's wheel, with a name that no model uses."""


def build_model(
    model: Path, base_pex: Path, out: Path | None = None, carry: Sequence[str] = (), *, cache: Path, report: Report
) -> BuiltPex:
    """Builds a model's pex on a base unless it is up to date.

    Args:
        model: The folder of the model's project.
        base_pex: The base that it is built on and will run on.
        out: The file to write, or a folder, in which it is called `<name>-<version>.pex`; the base's folder by default.
        carry: Distributions that the pex carries although base has them, besides those that the model's pyproject.toml names.
        cache: The cache folder.
        report: Called with lines of progress.

    Raises:
        BuildFailed: It cannot be built, or would not run on this base; a file that was there before has not changed.
    """
    built_on = _base_stamp(base_pex, cache)
    about = read_pyproject(model).get("project", {})
    if "name" not in about or "version" not in about:
        raise BuildFailed(f"{model / 'pyproject.toml'} has no [project] with a name and a version")
    carried = sorted({*_declared_carry(model), *(str(canonicalize_name(name)) for name in carry)})
    fingerprint = model_fingerprint(model, built_on.sha256, carried)
    place = output_path(out or base_pex.parent, f"{about['name']}-{about['version']}.pex")

    def build(out: Path) -> None:
        _ModelBuild(model, read_pex(base_pex, checksums=False), built_on, carried, fingerprint, cache, report).build(out)

    return build_or_reuse(BuildRequest("model", fingerprint, place, cache, build), report)


def _base_stamp(path: Path, cache: Path) -> BaseStamp:
    try:
        stamp = read_stamp(path)
    except PexRefused as exc:
        raise BuildFailed(f"{exc.detail}; build a base with `pexdock build base`") from exc
    if stamp is None or stamp.kind != "base":
        raise BuildFailed(f"{path} is not a base; build one with `pexdock build base`")
    if stamp.wire != WIRE_VERSION:
        raise BuildFailed(f"{path} has wire version {stamp.wire}, and this is {WIRE_VERSION}; rebuild it with `pexdock build base`")
    return BaseStamp(stamp.version, file_sha256(path, cache))


def _declared_carry(model: Path) -> list[str]:
    """Returns the list `carry` of the table [tool.pexdock]."""
    table = read_pyproject(model).get("tool", {}).get("pexdock", {})
    unknown = sorted(set(table) - {"carry"})
    names = table.get("carry", [])
    if unknown or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BuildFailed(f"[tool.pexdock] in {model / 'pyproject.toml'} may only contain carry, a list of names; found {unknown or names}")
    return [str(canonicalize_name(name)) for name in names]


@dataclass
class _ModelBuild:
    """One build of one model."""

    model: Path
    base: PexFile
    built_on: BaseStamp
    carry: Collection[str]
    fingerprint: str
    cache: Path
    report: Report
    _pins: dict[str, Pin] | None = None
    _wheels: list[Path] = field(default_factory=list)

    def build(self, out: Path) -> None:
        """Writes the pex to `out`."""
        self.report(f"building {self.model.name} on base {self.base.version}")
        steps = Steps(self.report, 3)
        with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
            with steps.step("building the wheel"):
                wheel = build_wheel(self.model, Path(folder, "wheel"))
                model = self._check_model(read_wheel(wheel))
            with steps.step("subtracting what base provides"):
                own = select_distributions(model, self.base, self.carry, self._fetch)
            with steps.step("packing"):
                self._pack(model, own, wheel, out, Path(folder, "start"))

    def _check_model(self, model: Distribution) -> Distribution:
        if not model.endpoints:
            raise BuildFailed(
                f"{model.name} declares no endpoint; add to its pyproject.toml:\n"
                f'    [project.entry-points."{ENDPOINT_GROUP}"]\n    predict = "{model.name.replace("-", "_")}:predict"'
            )
        if model.name in self.base.distributions:
            raise BuildFailed(f"{model.name} is also the name of a distribution in base {self.base.version}; choose another name")
        return _without_reserved_modules(model)

    def _fetch(self, names: Collection[str]) -> Mapping[str, Distribution]:
        """Downloads distributions that the model's lock pins."""
        if self._pins is None:
            if not (self.model / "poetry.lock").is_file():
                missing = ", ".join(names)
                raise BuildFailed(
                    f"{self.model.name} must carry {missing}, but has no poetry.lock that pins it; run `poetry lock` in {self.model}"
                )
            self._pins = export_pins(self.model, all_groups=True)
        unknown = [name for name in names if name not in self._pins]
        if unknown:
            raise BuildFailed(
                f"{self.model.name} must carry {', '.join(unknown)}, which its poetry.lock does not pin for this machine; "
                f"add it to the dependencies and run `poetry lock` in {self.model}"
            )
        wheels = download_wheels([self._pins[name] for name in names], self.cache, self.report)
        self._wheels += wheels
        return {name: _without_reserved_modules(found) for name, found in read_wheels(wheels).items()}

    def _pack(self, model: Distribution, own: Mapping[str, Distribution], wheel: Path, out: Path, sources: Path) -> None:
        version = str(model.version)
        provided = {name: found for name, found in self.base.versions.items() if name not in own}
        stamp = Stamp(
            kind="model",
            name=model.name,
            version=version,
            wire=WIRE_VERSION,
            fingerprint=self.fingerprint,
            base=self.built_on,
            provided=provided,
        )
        _write_start(sources, self.base.version, f"{model.name}-{version}.pex")
        # Each is a root, since a distribution that only an excluded one requires would otherwise be left out.
        roots = sorted(f"{found.name}=={found.version}" for found in own.values())
        excludes = [argument for name in sorted(provided) for argument in ("--exclude", name)]
        run_pex(roots, [wheel, *self._wheels], stamp, out, ["-D", sources, "-m", START_MODULE, *excludes])


def _without_reserved_modules(found: Distribution) -> Distribution:
    try:
        refuse_reserved_modules(found)
    except PexRefused as exc:
        raise BuildFailed(exc.detail) from exc
    return found


def _write_start(sources: Path, base_version: str, name: str) -> None:
    """Writes the module that runs when the pex is executed by hand."""
    template = Template(Path(__file__).with_name("start.py.in").read_text())
    sources.mkdir()
    text = template.substitute(base=f"base-{base_version}.pex", model=name)
    (sources / f"{START_MODULE}.py").write_text(text)
