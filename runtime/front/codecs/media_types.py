"""The media types of bodies."""

JSON = "application/json"
NDJSON = "application/x-ndjson"
NDJSON_ALIASES = ("application/ndjson", "application/jsonl", "application/jsonlines")
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"

SUPPORTED = (JSON, NDJSON, CSV, PARQUET, ARROW)


def media_type_of(content_type: str) -> str:
    """Returns the media type in the value of a Content-Type header, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()
