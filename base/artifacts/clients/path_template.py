"""Path templates: parameters ↔ a relative path. Pure: does not touch the file system."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from base.errors import Cell, Declaration, Misfit

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PathTemplate:
    """A relative path with `{name}` anywhere inside a component: `{country}/v{n}/model-{kind}.bin`.

    A leading and a trailing "/" are dropped: a template is always relative to a base path. A name may appear more than once.

    Attributes:
        text: The template as it was given.
        parameters: The names, in the order of their first appearance.

    Raises:
        Declaration: The template is empty, or has a component "." or "..", a lone brace, a name that is not an identifier, two adjacent
            placeholders (which could be split in more than one way), a backslash or a control character.
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
        """Returns the number of path components."""
        return len(self._components)

    def format(self, parameters: Mapping[str, str]) -> PurePosixPath:
        """Returns the relative path for these parameters, and ignores those that the template does not name.

        Raises:
            Misfit: A value is missing, or is not a part of one path component.
        """
        values = {name: check_value(name, parameters.get(name)) for name in self.parameters}
        return PurePosixPath(*(_PLACEHOLDER.sub(lambda found: values[found[1]], component) for component in self._components))

    def prefix(self, parameters: Mapping[str, str]) -> PurePosixPath:
        """Returns the components before the first one that has another parameter.

        Raises:
            Misfit: As in `format`.
        """
        known: list[str] = []
        for component in self._components:
            if not parameters.keys() >= set(_PLACEHOLDER.findall(component)):
                break
            known.append(component)
        return PathTemplate("/".join(known)).format(parameters) if known else PurePosixPath()

    def manifest_path(self, parameters: Mapping[str, str], name: str, file: str) -> PurePosixPath | None:
        """Returns the path with `file` in place of the first component that has the parameter `name`; None without such a component.

        Raises:
            Misfit: As in `format`, for the parameters before that component.
        """
        for depth, component in enumerate(self._components):
            if name in _PLACEHOLDER.findall(component):
                before = "/".join(self._components[:depth])
                return PathTemplate(before).format(parameters) / file if before else PurePosixPath(file)
        return None

    def match(self, path: PurePosixPath) -> dict[str, str] | None:
        """Returns the parameters that lead to this relative path; None if the path does not match.

        If several splits are possible (`{a}-{b}` and `1-2-3`), earlier values are as short as possible.
        """
        found = self._patterns[-1].fullmatch(str(path))
        return found.groupdict() if found else None

    def may_lead_to(self, path: PurePosixPath) -> bool:
        """Returns True if a matching path may begin with this one. Listings use it to skip folders without reading them."""
        return len(path.parts) <= self.depth and self._patterns[len(path.parts) - 1].fullmatch(str(path)) is not None


def parse_templates(texts: str | Sequence[str]) -> tuple[PathTemplate, ...]:
    """Returns the templates of one text, or of several in the order in which they are tried.

    Raises:
        Declaration: There is no template, or one is invalid.
    """
    found = tuple(PathTemplate(text) for text in ([texts] if isinstance(texts, str) else texts))
    if not found:
        raise Declaration("give at least one path template")
    return found


def check_value(name: str, value: str | None) -> str:
    """Returns the value of a parameter if it is safe within one path component.

    Raises:
        Misfit: The value is missing, empty, "." or "..", contains "/", a backslash or a control character, or is not valid Unicode.
    """
    if value is None:
        reason = "is missing"
    elif value in {"", ".", ".."}:
        reason = f"must not be {value!r}"
    elif "/" in value or "\\" in value:
        reason = "must not contain a slash or backslash"
    elif _CONTROL.search(value):
        reason = "must not contain control characters"
    elif not _is_unicode(value):
        reason = "is not valid Unicode"
    else:
        return value
    raise Misfit(f"parameter {name!r} {reason}", cells=[Cell(None, name, reason)])


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which percent-decoding can produce
        return False
    return True


def _check_component(text: str, component: str) -> None:
    literal = _PLACEHOLDER.sub("", component)
    if component in {"", ".", ".."}:
        raise Declaration(f"path template {text!r} has a component {component!r}; write a plain relative path")
    if "{" in literal or "}" in literal:
        raise Declaration(f"path template {text!r} has an unmatched brace; write {{name}} for a parameter")
    if "\\" in literal or _CONTROL.search(literal):
        raise Declaration(f"path template {text!r} contains a backslash or a control character; remove it")
    for name in _PLACEHOLDER.findall(component):
        if not name.isidentifier():
            raise Declaration(f"path template {text!r}: {name!r} is not a valid parameter name; use letters, digits and underscores")
    if "}{" in component:
        raise Declaration(f"path template {text!r} has two adjacent parameters; put a character between them")


def _pattern_of(components: list[str]) -> re.Pattern[str]:
    seen: set[str] = set()
    return re.compile("/".join(_component_pattern(component, seen) for component in components), re.DOTALL)


def _component_pattern(component: str, seen: set[str]) -> str:
    """Returns one component as a regular expression; a name that was seen before must have the same value again."""
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
