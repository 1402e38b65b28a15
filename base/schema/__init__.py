"""Schemas of rows: `from base.schema import Schema`."""

from base.schema.constraints import column_validator as column_validator
from base.schema.model import Schema as Schema
