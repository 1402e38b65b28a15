"""Path templates: parameters ↔ a relative path. Pure: knows no file system."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from base.errors import Cell, Declaration, Misfit

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PathTemplate:
    """A relative path with `{name}` anywhere inside a component: `{country}/v{n}/model-{kind}.bin`.

    A leading and a trailing "/" are dropped: a template is always relative to a base path. A name may stand in more than one place.

    Attributes:
        text: the template as given.
        parameters: the names, in the order of their first appearance.

    Raises:
        Declaration: the template is empty, or has a component "." or "..", a lone brace, a name that is no identifier, two placeholders
            side by side (where would one value end?), or a backslash or control character.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._components = text.strip("/").split("/")
        for component in self._components:
            _check_component(text, component)
        self.parameters = tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))
        self._patterns = [_pattern_of(self._components[:depth]) for depth in range(1, len(self._components) + 1)]

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r})"

    @property
    def depth(self) -> int:
        """The number of path components."""
        return len(self._components)

    def format(self, parameters: Mapping[str, str]) -> PurePosixPath:
        """The relative path for these parameters; those that the template does not name are ignored.

        Raises:
            Misfit: a value is missing, or could be more or other than a piece of one path component.
        """
        values = {name: check_value(name, parameters.get(name)) for name in self.parameters}
        return PurePosixPath(*(_PLACEHOLDER.sub(lambda found: values[found[1]], component) for component in self._components))

    def manifest_path(self, parameters: Mapping[str, str], name: str, file: str) -> PurePosixPath | None:
        """The path of a file that stands in for the first component with the parameter `name`; None if there is no such component.

        Raises:
            Misfit: as in `format`, for the parameters before that component.
        """
        for depth, component in enumerate(self._components):
            if name in _PLACEHOLDER.findall(component):
                before = "/".join(self._components[:depth])
                return PathTemplate(before).format(parameters) / file if before else PurePosixPath(file)
        return None

    def match(self, path: PurePosixPath) -> dict[str, str] | None:
        """The parameters that lead to this relative path; None where it does not fit.

        Where several splits would fit (`{a}-{b}` and `1-2-3`) the earlier values are the shorter ones.
        """
        found = self._patterns[-1].fullmatch(str(path))
        return found.groupdict() if found else None

    def may_lead_to(self, path: PurePosixPath) -> bool:
        """Whether a path that fits could begin with this one. A listing uses it to leave folders out without reading them."""
        return len(path.parts) <= self.depth and self._patterns[len(path.parts) - 1].fullmatch(str(path)) is not None


def parse_templates(texts: str | Sequence[str]) -> tuple[PathTemplate, ...]:
    """One template or several of them, the first of which is tried first.

    Raises:
        Declaration: there is none, or one means nothing.
    """
    found = tuple(PathTemplate(text) for text in ([texts] if isinstance(texts, str) else texts))
    if not found:
        raise Declaration("give at least one path template")
    return found


def check_value(name: str, value: str | None) -> str:
    """The value of a parameter, once it is known to be a harmless piece of one path component.

    Raises:
        Misfit: it is missing, empty, "." or "..", holds "/", a backslash, NUL or another control character, or is not valid Unicode.
    """
    if value is None:
        reason = "is missing"
    elif value in {"", ".", ".."}:
        reason = f"may not be {value!r}"
    elif "/" in value or "\\" in value:
        reason = "may not hold a slash or backslash"
    elif _CONTROL.search(value):
        reason = "may not hold control characters"
    elif not _is_unicode(value):
        reason = "is not valid Unicode"
    else:
        return value
    raise Misfit(f"parameter {name!r} {reason}", cells=[Cell(None, name, reason)])


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which percent-decoding can make of stray bytes
        return False
    return True


def _check_component(text: str, component: str) -> None:
    literal = _PLACEHOLDER.sub("", component)
    if component in {"", ".", ".."}:
        raise Declaration(f"path template {text!r} has a component {component!r}: write a plain relative path")
    if "{" in literal or "}" in literal:
        raise Declaration(f"path template {text!r} has a brace that opens or closes nothing")
    if "\\" in literal or _CONTROL.search(literal):
        raise Declaration(f"path template {text!r} holds a backslash or a control character")
    for name in _PLACEHOLDER.findall(component):
        if not name.isidentifier():
            raise Declaration(f"path template {text!r}: {name!r} is no name for a parameter; use letters, digits and underscores")
    if "}{" in component:
        raise Declaration(f"path template {text!r} has two parameters side by side: put a character between them")


def _pattern_of(components: list[str]) -> re.Pattern[str]:
    seen: set[str] = set()
    return re.compile("/".join(_component_pattern(component, seen) for component in components), re.DOTALL)


def _component_pattern(component: str, seen: set[str]) -> str:
    """One component as a regular expression; a name that was seen before must have the same value again."""
    pattern = ""
    for index, piece in enumerate(_PLACEHOLDER.split(component)):
        if index % 2 == 0:
            pattern += re.escape(piece)
        elif piece in seen:
            pattern += f"(?P={piece})"
        else:
            seen.add(piece)
            pattern += f"(?P<{piece}>[^/]+?)"
    return pattern
