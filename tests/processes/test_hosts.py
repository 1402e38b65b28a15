"""A supervisor that listens on several addresses, of both families."""

import contextlib
import socket

import httpx
import pytest

from operated_supervisor import TOKEN, Operated
from tinypex import times, write_tiny

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="NOT TESTED: this machine has no IPv6")


def test_clients_and_operators_reach_each_host_by_its_family(tmp_path):
    """Both hosts have one port; banner, state and table name both; the admin API listens on `::` for both families."""
    operated = Operated(tmp_path, host="127.0.0.1, ::1", admin_host="::", front_doors=2).listen_on_tcp(tmp_path)
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with operated:
        first, second = operated.state()["addresses"]
        port = int(first.rpartition(":")[2])
        assert (first, second) == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
        assert operated.state()["address"] == first
        for address in (first, second):
            replies = [httpx.post(f"{address}/tiny", json=[{"x": 3}], timeout=20).json()["predictions"] for _ in range(8)]
            assert replies == [[6]] * 8
        operated.until(lambda: f"at {first} and {second} (documentation at {first}/docs)" in operated.out.read_text())
        assert f"at {first}, {second}" in operated.run("models").stdout
        admin_port = int(operated.state()["admin_address"].rpartition(":")[2])
        for host in ("127.0.0.1", "[::1]"):
            reply = httpx.get(f"http://{host}:{admin_port}/models", headers={"authorization": f"Bearer {TOKEN}"}, timeout=20)
            assert reply.status_code == 200
    with contextlib.ExitStack() as stack:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            stack.enter_context(socket.create_server((host, port), family=family))  # both are free again
