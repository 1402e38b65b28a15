"""Projects of models as their authors write them, each with one module and no lock."""

PYPROJECT = """\
[project]
name = "{name}"
version = "{version}"
requires-python = ">=3.11"
dependencies = {dependencies}

[project.entry-points."pexdock.endpoints"]
{endpoints}

[build-system]
requires = ["poetry-core>=2.0,<3"]
build-backend = "poetry.core.masonry.api"
{more}
"""

DOUBLE = """\
import polars as pl
from base.service import endpoint


@endpoint(path="/double")
def predict(records_df: pl.DataFrame):
    return records_df["x"] * 2
"""


def write_project(folder, source=DOUBLE, *, name="tiny", version="0.1.0", dependencies=(), more="", endpoints=("predict",)):
    """Writes a model's project with one module, without a lock."""
    module = name.replace("-", "_")
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(source)
    entries = "\n".join(f'{endpoint} = "{module}:{endpoint}"' for endpoint in endpoints)
    text = PYPROJECT.format(name=name, version=version, endpoints=entries, dependencies=list(dependencies), more=more)
    (folder / "pyproject.toml").write_text(text)
    return folder
