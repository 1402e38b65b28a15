"""Which webhooks may be called."""

import pytest

from base.errors import Misfit
from runtime.jobs.webhook_hosts import WebhookHosts, WebhookUrl
from runtime.settings import BadSetting, load

HOSTS = WebhookHosts(["hooks.example.com", "Other.Example.com:8443", "127.0.0.1:9000", "[::1]:9001", "10.0.0.0/8"])


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://hooks.example.com", (True, "hooks.example.com", 443, "/")),
        ("https://HOOKS.example.com/a?b=c", (True, "hooks.example.com", 443, "/a?b=c")),
        ("http://hooks.example.com:80/", (False, "hooks.example.com", 80, "/")),
        ("https://other.example.com:8443/x", (True, "other.example.com", 8443, "/x")),
        ("http://127.0.0.1:9000/", (False, "127.0.0.1", 9000, "/")),
        ("http://[::1]:9001/", (False, "::1", 9001, "/")),
    ],
)
def test_a_host_of_the_list_is_called_at_its_port(url, parts):
    assert HOSTS.parse_url(url) == WebhookUrl(*parts)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://hooks.example.com:8443/", "webhooks may not call hooks.example.com:8443"),
        ("https://other.example.com/", "webhooks may not call other.example.com:443"),
        ("https://evil.example.com/", "webhooks may not call evil.example.com:443"),
        ("https://sub.hooks.example.com/", "may not call"),
        ("https://hooks.example.com.evil.com/", "may not call"),
        ("https://hooks.example.com./", "may not call"),
        ("http://10.1.2.3/", "may not call"),  # the network says where hosts may be, not which
        ("http://127.0.0.1/", "may not call"),
        ("http://2130706433:9000/", "may not call"),  # 127.0.0.1 as one number
        ("http://0x7f.0.0.1:9000/", "may not call"),
        ("https://hooks.example.com@evil.com/", "neither a user"),
        ("https://user:secret@hooks.example.com/", "neither a user"),
        ("https://hooks.example.com/#part", "fragment"),
        ("https:///path", "must have a host"),
        ("ftp://hooks.example.com/", "must be a URL such as"),
        ("hooks.example.com", "must be a URL such as"),
        ("https://hooks.example.com:99999/", "must be a URL such as"),
        ("https://[::1/", "must be a URL such as"),
        ("https://hooks.example.com/\r\nX-Evil: 1", "printable ASCII"),
        ("https://hooks.example.com/a b", "printable ASCII"),
        ("https://höoks.example.com/", "printable ASCII"),
        ("https://hooks.example.com/" + "a" * 2048, "at most 2048"),
    ],
)
def test_no_other_url_is_called(url, reason):
    with pytest.raises(Misfit, match=reason):
        HOSTS.parse_url(url)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", True),  # in a network of the list
        ("::ffff:10.1.2.3", True),
        ("127.0.0.1", True),  # in the list
        ("::1", True),
        ("127.0.0.2", False),
        ("169.254.169.254", False),  # metadata of cloud machines
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("nonsense", False),
    ],
)
def test_private_addresses_are_called_only_if_the_list_has_them(address, allowed):
    assert HOSTS.allows(address) is allowed


@pytest.mark.parametrize("entry", ["https://hooks.example.com", "10.0.0.1/8", "a b", "host:port", "-", "*.example.com"])
def test_an_entry_that_is_no_host_is_an_error_of_the_settings(tmp_path, monkeypatch, entry):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEXDOCK_JOB_WEBHOOK_HOSTS", f"hooks.example.com, {entry}")
    with pytest.raises(BadSetting, match="JOB_WEBHOOK_HOSTS"):
        load()


def test_the_standard_port_is_left_out_of_the_header():
    assert HOSTS.parse_url("https://hooks.example.com/").authority == "hooks.example.com"
    assert HOSTS.parse_url("http://[::1]:9001/").authority == "[::1]:9001"
