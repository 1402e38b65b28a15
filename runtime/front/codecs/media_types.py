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


def parameters_of(content_type: str) -> dict[str, str]:
    """Returns the parameters of a Content-Type header, such as `charset`, with their names in lower case."""
    pairs = (each.partition("=") for each in content_type.split(";")[1:])
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
