"""The sockets that front doors inherit, bound for real."""

import socket

import pytest

from runtime.supervisor.host.listeners import CannotListen, bind_listeners, describe_reach, local_url


@pytest.mark.parametrize("count", [1, 3])
def test_a_port_that_is_taken_is_refused_however_many_sockets_share_it(count):
    """Sockets that share a port would let a second supervisor share it too."""
    with bind_listeners(["127.0.0.1"], 0, count) as doors:
        port = doors[0][0].getsockname()[1]
        for others in (1, 3):
            with pytest.raises(CannotListen, match=f"port {port}: .*--port"), bind_listeners(["127.0.0.1"], port, others):
                pass
    with bind_listeners(["127.0.0.1"], port, count):
        pass  # it was free as soon as the first had ended


def test_several_sockets_have_one_port_and_each_gets_connections():
    """The system may choose the port."""
    with bind_listeners(["127.0.0.1"], 0, 2) as doors:
        listeners = [listener for (listener,) in doors]
        assert len({listener.getsockname() for listener in listeners}) == 1
        clients = [socket.create_connection(listeners[0].getsockname()) for _ in range(64)]
        taken = []
        for listener in listeners:
            listener.setblocking(False)
            taken.append(0)
            while accepted := accept(listener):
                taken[-1] += 1
                accepted.close()
        for client in clients:
            client.close()
        assert sum(taken) == 64
        assert all(taken)


def accept(listener):
    """A connection that waits, or None."""
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None


def test_an_address_of_another_machine_is_refused_with_a_way_out():
    """Names that mean nothing, too."""
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(CannotListen, match=f"cannot listen on {host} .*--host"), bind_listeners([host], 0, 1):
            pass


def test_the_url_is_one_that_clients_can_use():
    """A socket on all addresses is reached on loopback."""
    with bind_listeners(["0.0.0.0"], 0, 1) as ((listener,),):
        assert local_url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="NOT TESTED: this machine has no IPv6")


@IPV6
@pytest.mark.parametrize("count", [1, 2])
def test_the_unspecified_address_of_ipv6_accepts_both_families(count):
    """Each of several sockets does, and the port is taken in both."""
    with bind_listeners(["::"], 0, count) as doors:
        listeners = [listener for (listener,) in doors]
        port = listeners[0].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=10).close()
        assert local_url(listeners[0]) == f"http://[::1]:{port}"
        assert {describe_reach(listener) for listener in listeners} == {"reachable from every network over IPv6 and IPv4"}
        with pytest.raises(CannotListen), bind_listeners(["0.0.0.0"], port, 1):
            pass


@IPV6
def test_an_address_of_ipv6_accepts_no_ipv4():
    """It is the address that was asked for."""
    with bind_listeners(["::1"], 0, 1) as ((listener,),):
        port = listener.getsockname()[1]
        socket.create_connection(("::1", port), timeout=10).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        assert describe_reach(listener) == "reachable from this machine alone"


def test_the_reach_of_an_address_is_told_as_it_is():
    """Of IPv4 it is no other than it was."""
    with bind_listeners(["0.0.0.0"], 0, 1) as ((listener,),):
        assert describe_reach(listener) == "reachable from every network over IPv4, but not over IPv6"
    with bind_listeners(["127.0.0.1"], 0, 1) as ((listener,),):
        assert describe_reach(listener) == "reachable from this machine alone"


@IPV6
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("hosts", [["127.0.0.1", "::1"], ["0.0.0.0", "::"]])
def test_each_of_several_hosts_is_bound_for_each_front_door_on_one_port(count, hosts):
    """Of both unspecified addresses, each accepts its own family."""
    with bind_listeners(hosts, 0, count) as doors:
        assert [len(door) for door in doors] == [2] * count
        assert len({listener.getsockname()[1] for door in doors for listener in door}) == 1
        port = doors[0][0].getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=10).close()
        for host in hosts:
            with pytest.raises(CannotListen, match=f"cannot listen on {host} port {port}"), bind_listeners([host], port, 1):
                pass


def test_one_of_several_hosts_that_cannot_be_bound_is_named():
    """Then none is."""
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1"), bind_listeners(["127.0.0.1", "192.0.2.1"], 0, 2):
        pass
