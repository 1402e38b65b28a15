"""The target of a path and a query: an endpoint and parameters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from urllib.parse import parse_qs

import msgspec

from base.errors import Cell, Malformed, Misfit, PexdockError, TooLarge
from base.ipc.protocol import BODY_MAX_BYTES
from runtime.front.requests.endpoint import ServedEndpoint

_QUERY_FIELDS_MAX = 1000

_SHOWN_MAX_CHARS = 64
"""Length of the name of an unknown parameter in an error."""

_ERRORS_MAX = 10
"""Number of parameters that an error names."""


class Target:
    """An endpoint, and the parameters of path and query, encoded for a worker. All requests for a path and a query share one.

    Attributes:
        path: The path in its canonical form (`runtime.front.routing.canonical_path`).
        query: The query as received.
        takes_query: Whether another query can be another target.
        refusal: The error of a query that the endpoint does not take; None if it does. If a traffic split chooses another release, that
            one may take it.
        admitted: Whether the parameters need no check by a worker, or have passed it.
        group: Requests of equal groups, and of the same shape, may share a batch.
        split: Whether a traffic split chooses the release; the endpoint is then only the first choice.

    Raises:
        TooLarge: the parameters do not fit into a message to a worker.
    """

    __slots__ = ("admitted", "endpoint", "group", "parameters", "path", "query", "refusal", "split", "takes_query")

    def __init__(self, endpoint: ServedEndpoint, parameters: Mapping[str, str], path: bytes, query: bytes = b"") -> None:
        spec = endpoint.spec
        self.endpoint = endpoint
        self.path = path
        self.query = query
        self.takes_query = bool(spec.query)
        self.refusal: PexdockError | None = None
        of_query: Mapping[str, str | list[str]] = {}
        if spec.query and query:
            try:
                of_query = _declared_values(parse_query(query), spec.query)
            except PexdockError as exc:
                self.refusal = exc.with_traceback(None)
        self.admitted = not spec.checks_parameters and self.refusal is None
        self.split = False
        self.parameters = msgspec.json.encode({**parameters, **of_query}, order="sorted")
        self.group: tuple[Hashable, ...] = (self.parameters,)
        check_parameter_bytes(self.parameters)

    def require_valid(self) -> None:
        """Raises the error of a query that the endpoint does not take."""
        if self.refusal is not None:
            raise self.refusal.copy_for_caller()


def parse_query(query: bytes) -> dict[str, list[str]]:
    """Returns the values of each name in a query.

    Raises:
        Malformed: The query has too many fields, or is not UTF-8.
    """
    try:
        return parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX)
    except UnicodeError as exc:
        raise Malformed("the query is not UTF-8; encode its names and values as UTF-8 and then with percent signs") from exc
    except ValueError as exc:
        raise Malformed(f"the query has more than {_QUERY_FIELDS_MAX} fields; send fewer parameters, and the rows in the body") from exc


def _declared_values(given: Mapping[str, list[str]], declared: Mapping[str, bool]) -> dict[str, str | list[str]]:
    """Returns the values of a query: a list for each parameter that may be repeated.

    Raises:
        Misfit: It has a parameter that is not declared, or repeats one that may be given once.
    """
    cells = []
    for name, values in given.items():
        if name not in declared:
            near = get_close_matches(name[:_SHOWN_MAX_CHARS], declared, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            cells.append(Cell(None, name[:_SHOWN_MAX_CHARS], f"no such parameter{hint}; the query may have {', '.join(declared)}"))
        elif len(values) > 1 and not declared[name]:
            cells.append(Cell(None, name, f"the parameter is given {len(values)} times; give it once"))
        if len(cells) >= _ERRORS_MAX:
            break
    if cells:
        raise Misfit(f"the parameters do not fit: {'; '.join(f'{each.column}: {each.reason}' for each in cells)}", cells=cells)
    return {name: values if declared[name] else values[0] for name, values in given.items()}


def check_parameter_bytes(encoded: bytes) -> None:
    """Raises TooLarge if encoded parameters do not fit into a message to a worker."""
    if len(encoded) > BODY_MAX_BYTES:
        raise TooLarge(f"path parameters, query and headers are limited to {BODY_MAX_BYTES} bytes together")
