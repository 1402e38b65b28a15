"""Bodies of text in other charsets than UTF-8."""

from __future__ import annotations

import pytest

from base.errors import Malformed, UnsupportedMedia
from runtime.front.codecs.decoder import RowDecoder, decode_body

BODIES = {"application/json": '[{"é":"Ã©"}]', "application/x-ndjson": '{"é":"Ã©"}\n', "text/csv": "é\nÃ©\n"}
"""In Latin-1 the value has the bytes of é in UTF-8, so that no error would tell that the charset was overlooked."""


def read(content_type: str, body: bytes) -> list[dict[str, object]]:
    decoder = RowDecoder(None)
    return decoder.batches.build_record_batch([decode_body(decoder, content_type, body)]).to_pylist()


@pytest.mark.parametrize("media", BODIES)
@pytest.mark.parametrize(
    "charset",
    ["utf-8", "UTF-8", "utf8", '"utf-8"', "ISO-8859-1", "latin-1", "Latin1", "windows-1252", "cp1252", "utf-16", "utf-16le", "UTF-16-BE"],
)
def test_a_body_is_read_in_the_charset_that_it_declares(media: str, charset: str) -> None:
    body = BODIES[media].encode(charset.strip('"'))
    assert read(f"{media}; charset={charset}", body) == [{"é": "Ã©"}]


@pytest.mark.parametrize("media", BODIES)
def test_an_unknown_charset_is_refused_and_a_wrong_one_is_malformed(media: str) -> None:
    body = BODIES[media].encode()
    with pytest.raises(UnsupportedMedia, match="send UTF-8"):
        read(f"{media}; charset=ebcdic", body)
    with pytest.raises(Malformed):
        read(f"{media}; charset=utf-16", body + b" " * (1 - len(body) % 2))
    with pytest.raises(Malformed):
        read(media, BODIES[media].encode("latin-1"))


def test_csv_without_a_header_is_refused() -> None:
    """Its first row would be taken for the header (RFC 4180)."""
    with pytest.raises(UnsupportedMedia, match="names of its columns"):
        read("text/csv; header=absent", b"1,2\n3,4\n")
    assert read("text/csv; header=present", b"a\n1\n") == [{"a": 1}]
