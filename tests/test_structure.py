"""The structure of the packages: small, described, with one meaning a name. Which layer may import which is checked by import-linter."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("base", "runtime") for path in (ROOT / package).rglob("*.py"))
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in MODULES}

MAX_MODULES = 12
MAX_METHODS = 20
SENTENCES = 3

NO_VERB = re.compile(r"(What|Whose|Who|Whether|How|Of|So|Where|All of|That|Those|Which|In which|As|Is|From now on|By|It|To be)\b")
"""First words of docstrings that are no full sentences."""


def test_no_package_has_more_modules_than_a_reader_can_keep_in_mind():
    """Beside its `__init__`."""
    modules = defaultdict(list)
    for path in MODULES:
        if path.name != "__init__.py":
            modules[path.parent.relative_to(ROOT)].append(path.stem)
    assert not {str(package): sorted(names) for package, names in modules.items() if len(names) > MAX_MODULES}


def test_each_package_says_what_it_owns_what_it_may_import_and_who_calls_it():
    """In at least three sentences."""
    found = {path: ast.get_docstring(tree) or "" for path, tree in TREES.items() if path.name == "__init__.py"}
    assert not [str(path) for path, text in found.items() if len(re.findall(r"[.:](?=\s|$)", text)) < SENTENCES]


def test_one_class_name_means_one_thing():
    """In both packages together; private names may be alike."""
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_docstrings_are_sentences():
    """Of functions, classes and modules; attributes and constants may be described by a phrase."""
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if NO_VERB.match(text):
                    found.append(f"{path}:{node.lineno} {node.name}: {text.splitlines()[0]}")
    assert not found


def test_no_class_has_more_methods_than_a_reader_can_keep_in_mind():
    """A class that does owns more than one thing."""
    methods = {
        f"{path} {node.name}": sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert len(methods) > 100
    assert not {name: count for name, count in methods.items() if count > MAX_METHODS}
