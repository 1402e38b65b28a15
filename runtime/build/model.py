"""`pexdock build model`: builds a model's pex without the packages that base provides."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from packaging.requirements import Requirement

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from runtime.build.download import fetch_wheels
from runtime.build.fingerprint import packed_fingerprint, sources_fingerprint
from runtime.build.locks.find import Lock, find_lock, found_locks, lock_on_the_spot
from runtime.build.locks.pin import Pin
from runtime.build.locks.requirements import loose_constraints
from runtime.build.pack import BuildRequest, BuiltPex, build_or_reuse, run_pex, sizes_of
from runtime.build.project import ModelOptions, left_out_warning
from runtime.build.subtract import select_distributions
from runtime.build.tool import BuildFailed, Steps
from runtime.build.wheel import build_wheel, project_name, read_wheels, without_links
from runtime.pex import archive as zips
from runtime.pex.distribution import ENDPOINT_GROUP, Distribution
from runtime.pex.file import SDK, BaseStamp, PexFile, Stamp, read_pex, read_stamp, refuse_reserved_modules
from runtime.pex.locks import Report
from runtime.pex.requirements import active_requirements
from runtime.pex.unpack import file_sha256

START_MODULE = "pexdock_start"
"""A module outside of the model's wheel, with a name that no model uses."""


@dataclass(frozen=True)
class ModelPlan:
    """Describes what a model's pex would contain.

    Attributes:
        name: Name of the model.
        version: Its version.
        base_version: Version of the base that it is built on.
        lock: The file that pins what it carries; None if it has none.
        carried: Name, version and size in bytes of the distributions that it carries besides itself, the largest first.
        provided: Name → version of the distributions that it takes from base, of those that it or what it carries requires.
        excluded: Names of what it does without although something requires it.
        warnings: What its author should know about it.
    """

    name: str
    version: str
    base_version: str
    lock: Path | None
    carried: tuple[tuple[str, str, int], ...]
    provided: Mapping[str, str]
    excluded: tuple[str, ...]
    warnings: tuple[str, ...]


def build_model(
    model: Path,
    base_pex: Path,
    out: Path | None = None,
    carry: Sequence[str] = (),
    *,
    cache: Path,
    report: Report,
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
    build = _ModelBuild.of(model, base_pex, carry, cache, report)

    def write(out: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
            build.write(Path(folder), out)

    fingerprint = sources_fingerprint(model, build.built_on.sha256, build.options, build.lock)
    request = BuildRequest("model", fingerprint, project_name(model), out or base_pex.parent, cache, write)
    built = build_or_reuse(request, report)
    with zips.open_archive(built.path) as archive:
        packed = [name.removeprefix(".deps/").partition("/")[2] for name in archive.namelist() if name.startswith(".deps/")]
    return dataclasses.replace(built, warnings=tuple(build.warnings(packed, built.carried, built.own_bytes)))


def plan_model(model: Path, base_pex: Path, carry: Sequence[str] = (), *, cache: Path, report: Report) -> ModelPlan:
    """Returns what `build_model` would build. Nothing is written but wheels in the cache.

    Raises:
        BuildFailed: As `build_model`.
    """
    build = _ModelBuild.of(model, base_pex, carry, cache, report)
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
        found, own = build.select(Path(folder), Steps(report, 2))
        with zips.open_archive(build.wheels[0]) as archive:
            packed = archive.namelist()
    carried = sizes_of(each for each in own.values() if each is not found)
    required = {each.name for distribution in own.values() for each in active_requirements(distribution)}
    return ModelPlan(
        name=found.name,
        version=str(found.version),
        base_version=build.base.version,
        lock=build.lock.file if build.lock else None,
        carried=carried,
        provided={name: version for name, version in build.base.versions.items() if name in required and name not in own},
        excluded=build.options.exclude,
        warnings=tuple(build.warnings(packed, carried, sum(each.size_bytes for each in own.values()))),
    )


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


@dataclass
class _ModelBuild:
    """One build of one model."""

    model: Path
    base_pex: Path
    built_on: BaseStamp
    options: ModelOptions
    lock: Lock | None
    cache: Path
    report: Report
    wheels: list[Path] = field(default_factory=list)
    _pins: dict[str, Pin] | None = None
    _base: PexFile | None = None

    @classmethod
    def of(cls, model: Path, base_pex: Path, carry: Sequence[str], cache: Path, report: Report) -> _ModelBuild:
        """Returns the build, with what the project says about it."""
        built_on = _base_stamp(base_pex, cache)
        options = ModelOptions.of(model, carry)
        return cls(model, base_pex, built_on, options, find_lock(model, options.lock), cache, report)

    @property
    def base(self) -> PexFile:
        """The base; read at the first use, which takes longer than a build that finds the pex up to date."""
        if self._base is None:
            self._base = read_pex(self.base_pex, checksums=False)
        return self._base

    def write(self, folder: Path, out: Path) -> None:
        """Writes the pex to `out`, with wheels in a temporary folder."""
        steps = Steps(self.report, 3)
        model, own = self.select(folder, steps)
        with steps.step("packing"):
            self.wheels = [without_links(wheel, folder / "plain") for wheel in self.wheels]
            self._pack(model, own, out, folder / "start")

    def select(self, folder: Path, steps: Steps) -> tuple[Distribution, dict[str, Distribution]]:
        """Returns the model's distribution and all that its pex must have; their wheels are in `wheels`, the model's own first."""
        self.report(f"building {self.model.name} on base {self.base.version}")
        with steps.step("building the wheel"):
            self.wheels = [build_wheel(self.model, folder / "wheel")]
            (model,) = read_wheels(self.wheels).values()
            self._check_model(model)
        with steps.step("subtracting what base provides"):
            own = select_distributions(model, self.base, self.options, lambda names: self._fetch(model, names, folder))
        return model, own

    def _check_model(self, model: Distribution) -> None:
        if not model.endpoints:
            raise BuildFailed(
                f"{model.name} declares no endpoint; add to its pyproject.toml:\n"
                f'    [project.entry-points."{ENDPOINT_GROUP}"]\n    predict = "{model.name.replace("-", "_")}:predict"'
            )
        if model.name in self.base.distributions:
            raise BuildFailed(f"{model.name} is also the name of a distribution in base {self.base.version}; choose another name")
        _refuse_reserved_modules(model)

    def _fetch(self, model: Distribution, names: Collection[str], folder: Path) -> Mapping[str, Distribution]:
        """Fetches distributions that the model's lock pins, or that are locked on the spot."""
        if self._pins is None:
            self._pins = self.lock.pins() if self.lock else self._lock_on_the_spot(model, names)
        unknown = [name for name in names if name not in self._pins]
        if unknown:
            where = f"its {self.lock.file.name} does not pin" if self.lock else "pip does not find"
            again = f"; add it to the dependencies and run `{self.lock.command}` in {self.lock.file.parent}" if self.lock else ""
            raise BuildFailed(f"{self.model.name} must carry {', '.join(unknown)}, which {where} for this machine{again}")
        wheels = fetch_wheels([self._pins[name] for name in names], self.cache, folder / f"fetched-{len(self.wheels)}", self.report)
        self.wheels += wheels
        found = read_wheels(wheels)
        for distribution in found.values():
            _refuse_reserved_modules(distribution)
        if absent := set(names) - set(found):
            raise BuildFailed(f"what {self.model.name} pins as {', '.join(sorted(absent))} has another name: {', '.join(sorted(found))}")
        return found

    def _lock_on_the_spot(self, model: Distribution, names: Collection[str]) -> dict[str, Pin]:
        needed = {each.name: each.requirement for each in active_requirements(model) if each.name in names}
        roots = [needed.get(name, Requirement(name)) for name in names]
        for root in roots:
            root.marker = None
        limits = [f"{name}=={version}" for name, version in self.base.versions.items() if name not in names and name != SDK]
        return lock_on_the_spot(roots, [*limits, *loose_constraints(self.model / "requirements.txt", self.base.versions)])

    def _pack(self, model: Distribution, own: Mapping[str, Distribution], out: Path, sources: Path) -> None:
        version = str(model.version)
        provided = {name: found for name, found in self.base.versions.items() if name not in own}
        stamp = Stamp(
            kind="model",
            name=model.name,
            version=version,
            wire=WIRE_VERSION,
            fingerprint=packed_fingerprint(self.wheels, self.built_on.sha256, self.options),
            base=self.built_on,
            provided=provided,
            excluded=list(self.options.exclude),
        )
        _write_start(sources, self.base.version, f"{model.name}-{version}.pex")
        # Each is a root, since a distribution that only an excluded one requires would otherwise be left out.
        roots = sorted(f"{found.name}=={found.version}" for found in own.values())
        excludes = [argument for name in sorted({*provided, *self.options.exclude}) for argument in ("--exclude", name)]
        run_pex(roots, sorted(self.wheels, key=lambda wheel: wheel.name), stamp, out, ["-D", sources, "-m", START_MODULE, *excludes])

    def warnings(self, packed: Collection[str], carried: Sequence[tuple[str, str, int]], own_bytes: int) -> Iterator[str]:
        """Yields what the model's author should know about the pex."""
        if self.lock is None and carried:
            names = ", ".join(f"{name} {version}" for name, version, _ in carried)
            yield (
                f"{self.model.name} has no lock, so the newest versions that fit base were taken: {names}. Another build may take others; "
                "to keep them, run `uv lock`, `poetry lock` or `pip lock .`, or compile a requirements.txt with hashes"
            )
        others = [file.name for file in found_locks(self.model) if self.lock and file != self.lock.file]
        if others and self.lock and not self.options.lock:
            name = self.lock.file.name
            yield f'{name} was read and {", ".join(others)} was not; remove what is old, or set lock = "{name}" in [tool.pexdock]'
        yield from left_out_warning(self.model, packed)
        if own_bytes > self.options.warn_above_mb * 1e6:
            largest = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, _, size in carried[:3])
            advice = "what the model does without can be left out with exclude = [...] in [tool.pexdock]"
            yield f"its packages take {own_bytes / 1e6:.0f} MB, most of it {largest or 'the model itself'}; {advice}"


def _refuse_reserved_modules(found: Distribution) -> None:
    try:
        refuse_reserved_modules(found)
    except PexRefused as exc:
        raise BuildFailed(exc.detail) from exc


def _write_start(sources: Path, base_version: str, name: str) -> None:
    """Writes the module that runs when the pex is executed by hand."""
    template = Template(Path(__file__).with_name("start.py.in").read_text())
    sources.mkdir()
    text = template.substitute(base=f"base-{base_version}.pex", model=name)
    (sources / f"{START_MODULE}.py").write_text(text)
