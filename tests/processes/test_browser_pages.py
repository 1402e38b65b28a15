"""The pages that people read in a browser: they need no other host, and no foreign page or script can use them."""

import re

import httpx
import polars as pl
import pytest

import base.service as svc
from base.testing import TestClient


@svc.endpoint("/double")
def double(records_df: pl.DataFrame) -> pl.Series:
    return records_df["a"] * 2


@pytest.fixture(scope="module")
def address():
    with TestClient(double) as client:
        yield client.address


def test_the_documentation_needs_no_other_host(address):
    """Each file that its page and style sheet name is served here with the right type; the page contains no inline script."""
    page = httpx.get(f"{address}/docs")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert {"docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"} <= set(named)
    for name in named:
        assert not name.startswith(("http:", "https:", "/"))
        found = httpx.get(f"{address}/{name}")
        wanted = {"css": "text/css", "js": "text/javascript", "png": "image/png"}[name.rpartition(".")[2]]
        assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (200, wanted)
        assert found.content
    assert not re.search(r"<script(?![^>]*src=)", page.text)
    assert not re.search(r"url\(\"?(?!\"?data:)", httpx.get(f"{address}/docs/swagger-ui.css").text)
    start = httpx.get(f"{address}/docs/start.js").text
    assert 'url: "openapi.json"' in start
    assert 'validatorUrl: "none"' in start


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/openapi.json", "/livez", "/readyz"])
def test_pages_cannot_be_framed_or_sniffed(address, path):
    """No browser guesses their type, shows them in a frame, or runs a script from elsewhere in them."""
    answer = httpx.get(f"{address}{path}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    policy = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert (policy["frame-ancestors"], policy["base-uri"], policy["form-action"]) == ("'none'", "'none'", "'none'")


@pytest.mark.parametrize("path", ["/docs/..%2f..%2fcore.py", "/docs/redoc.standalone.js", "/docs/", "/docs/oauth2-redirect", "/redoc"])
def test_no_other_file_is_served(address, path):
    """Only files that the page needs are served."""
    assert httpx.get(f"{address}{path}").status_code == 404
