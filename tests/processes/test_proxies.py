"""Real proxies in front of real supervisors that stop under load. A proxy that repeats nothing shows every fault to its clients."""

import signal

from load_clients import LoadClients
from privileges import unprivileged
from proxies import haproxy, nginx
from servers import free_port
from supervisor_harness import Supervised
from tinypex import write_tiny

CLIENTS = 8


def doubling(folder, doors):
    """Returns a supervisor without the capabilities of root, on a port that it keeps when it is started again."""
    folder.mkdir()
    supervised = Supervised(folder, port=free_port(), front_doors=doors, pre_stop_delay_s=4, drain_s=40)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    supervised.prefix = unprivileged(folder)
    return supervised


def address(supervised):
    return f"127.0.0.1:{supervised.settings['port']}"


def stop(supervised):
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.process.wait(60) == 0


def test_a_restart_of_each_server_behind_haproxy_loses_no_request(tmp_path):
    """HAProxy sees that a server is not ready and sends its requests to the other, one of which has two front doors."""
    tmp_path.chmod(0o755)
    one, two = doubling(tmp_path / "one", 1), doubling(tmp_path / "two", 2)
    with (
        one,
        two,
        haproxy(tmp_path, {"one": address(one), "two": address(two)}) as proxy,
        LoadClients(proxy.address, "/tiny", CLIENTS) as callers,
    ):
        two.until(lambda: callers.statuses[200] > 500)
        stop(one)
        one.start()
        one.until(lambda: any("servers/one is UP" in line for line in proxy.log()))
        stop(two)
        answered = callers.statuses[200]
        one.until(lambda: callers.statuses[200] > answered + 100)
    assert callers.faults == []
    assert set(callers.statuses) == {200}, [line for line in proxy.log() if " 200 " not in line]


def test_nginx_is_refused_by_a_server_that_stops_but_never_reset(tmp_path):
    """It knows nothing of readiness, and goes on to send requests. None of them is lost on a connection."""
    tmp_path.chmod(0o755)
    supervised = doubling(tmp_path / "one", 2)
    supervised.settings["pre_stop_delay_s"] = 0
    with supervised, nginx(tmp_path, [address(supervised)]) as proxy, LoadClients(proxy.address, "/tiny", CLIENTS) as callers:
        supervised.until(lambda: callers.statuses[200] > 500)
        stop(supervised)
    errors = [line for line in proxy.log() if "[error]" in line or "[crit]" in line]
    assert [line for line in errors if "(111: Connection refused) while connecting to upstream" not in line] == []
    assert callers.statuses[502] == len(errors)
    assert callers.faults == []
    assert set(callers.statuses) <= {200, 502}
