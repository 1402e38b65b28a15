"""Owns the rule by which values fit a schema, which is the same for every media type: JSON values, text, typed columns, nested values.

May import base.schema and base.errors.
Called by the other codecs, and by runtime.front.openapi for the forms that values have.
"""
