"""Owns the schemas of rows and their columns: `from base.schema import Schema`.

May import base.errors only.
Called by authors, by base.endpoint and base.worker, and by the front door for the columns that a schema has.
"""

from base.schema.constraints import column_validator as column_validator
from base.schema.model import Schema as Schema
