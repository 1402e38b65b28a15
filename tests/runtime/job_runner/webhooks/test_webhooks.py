"""Webhooks: when they are called, with what, and where to."""

import asyncio
import base64
import logging
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from base.backoff import Backoff
from base.errors import Misfit
from certificates import Authority
from markdown_guide import program
from runtime.job_runner.webhooks.sender import WebhookSender
from runtime.job_runner.webhooks.signature import BadWebhookSecret, read_secrets, sign
from runtime.jobs.job import Job, JobState, Submission
from runtime.jobs.webhook_hosts import WebhookConfig
from webhook_server import OK, WebhookServer, is_signed, wait_until

ROOT = Path(__file__).parents[4]

SECRET = b"a secret of more than 24 bytes"
QUICK = Backoff(0.01, 0.05)


@pytest.fixture
def secret_path(tmp_path):
    path = tmp_path / "secret"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    return path


class Told:
    """Numbers of the jobs whose webhook knows their end."""

    def __init__(self):
        self.numbers = []
        self._told = asyncio.Event()

    async def __call__(self, number):
        self.numbers.append(number)
        self._told.set()

    async def wait(self, count=1):
        await wait_until(self._told, lambda: len(self.numbers) >= count)


@asynccontextmanager
async def sending(server, secret_path, told=None, tls=None, **config):
    values = {"hosts": (f"127.0.0.1:{server.port}",), "secret_path": str(secret_path), "interval_ms": 1, **config}
    sender = WebhookSender(WebhookConfig(**values), told or Told(), tls, QUICK)
    try:
        yield sender
    finally:
        await sender.close()


def make_job(server, number=1, scheme="http", host="127.0.0.1", state=JobState.RUNNING, **fields):
    webhook = f"{scheme}://{host}:{server.port}/hook?of=me"
    submission = Submission(model="iris", target="/iris", body_file="", body_bytes=0, digest="", webhook=webhook)
    return Job(number=number, id=f"job-{number}", submission=submission, created_s=0, state=state, **fields)


def test_a_signature_is_that_of_the_specification():
    """The example is that of the published libraries."""
    headers = sign(
        [base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


@pytest.mark.parametrize("content", [None, b"", b"short", b"whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", b"\xff" * 40])
def test_a_file_without_a_secret_is_refused_with_what_to_do(tmp_path, content):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadWebhookSecret, match="secret"):
        read_secrets(path)


def test_a_call_carries_the_document_of_the_job_and_its_signature(secret_path):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told()) as sender:
            sender.notify(make_job(server, state=JobState.DONE, result_type="text/csv", result_bytes=7))
            await told.wait()
            ((line, headers, _),) = server.calls
            assert line == "POST /hook?of=me HTTP/1.1"
            assert headers["host"] == f"127.0.0.1:{server.port}"
            assert headers["content-type"] == "application/json"
            (document,) = server.documents
            assert (document["id"], document["state"]) == ("job-1", "done")
            assert document["result"] == {"media_type": "text/csv", "bytes": 7}
            assert is_signed(server.calls[0], SECRET)
            assert not is_signed(server.calls[0], b"another secret of 24 bytes!")
            assert told.numbers == [1]
            return server.calls[0]

    _, headers, body = asyncio.run(check())
    documented = {}
    exec(program((ROOT / "docs/operations/job-storage.md").read_text()), documented)
    assert documented["is_genuine"](headers, body, SECRET)
    assert not documented["is_genuine"](headers, body + b" ", SECRET)


def test_webhooks_of_one_client_that_hang_keep_back_those_of_no_other(secret_path):
    """Neither do they take all calls of a host, nor all jobs that are told at a time."""

    async def check():
        async with WebhookServer() as hanging, WebhookServer() as server:
            hanging.answers = [None] * 100
            hosts = tuple(f"127.0.0.1:{each.port}" for each in (hanging, server))
            config = {"hosts": hosts, "timeout_s": 100, "calls_max": 2, "jobs_max": 10}
            async with sending(server, secret_path, told := Told(), **config) as sender:
                for number in range(1, 21):
                    sender.notify(of("bob", make_job(hanging, number, state=JobState.DONE)))
                await hanging.wait_calls(2)
                sender.notify(of("ann", make_job(server, 21, state=JobState.DONE)))
                await told.wait()
                assert told.numbers == [21]
                assert len(hanging.calls) == 2

    asyncio.run(check())


def of(client, job):
    return replace(job, submission=replace(job.submission, client=client))


def test_a_secret_can_be_replaced_while_it_runs(secret_path):
    async def check():
        new = b"a new secret of over 24 bytes"
        async with WebhookServer() as server, sending(server, secret_path, told := Told()) as sender:
            secret_path.write_bytes(secret_path.read_bytes() + base64.b64encode(new) + b"\n")
            sender.notify(make_job(server, state=JobState.DONE))
            await told.wait()
            assert is_signed(server.calls[0], SECRET)
            assert is_signed(server.calls[0], base64.b64encode(new))  # without the prefix, the text is the secret

    asyncio.run(check())


def test_of_changes_that_come_fast_the_last_is_told_and_the_end_always(secret_path):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told(), interval_ms=300) as sender:
            for percent in range(100):
                sender.notify(make_job(server, fraction=percent / 100))
                await asyncio.sleep(0.001)
            await server.wait_calls(1)
            while server.documents[-1].get("fraction") != 0.99:
                await server.wait_calls(len(server.calls) + 1)
            sender.notify(make_job(server, state=JobState.FAILED, error={"detail": "it failed"}))
            await told.wait()
            fractions = [document.get("fraction") for document in server.documents]
            assert fractions[-2:] == [0.99, None]
            assert server.documents[-1]["error"] == {"detail": "it failed"}
            assert all(later - sooner >= 0.29 for sooner, later in zip(server.times_s, server.times_s[1:], strict=False))
            assert told.numbers == [1]

    asyncio.run(check())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["500", "404", "redirect", "closed", "foreign", "endless", "interim"],
)
def test_a_call_that_fails_is_repeated_with_the_same_id(secret_path, answer):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told()) as sender:
            server.answers = [answer, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK]
            sender.notify(make_job(server, state=JobState.DONE))
            await told.wait()
            assert len(server.calls) == 2
            first, second = (headers["webhook-id"] for _, headers, _ in server.calls)
            assert first == second

    asyncio.run(check())


def test_a_server_that_never_answers_is_given_up_and_delays_no_other(secret_path, caplog):
    caplog.set_level(logging.WARNING)

    async def check():
        async with WebhookServer() as silent, WebhookServer() as server:
            hosts = (f"127.0.0.1:{silent.port}", f"127.0.0.1:{server.port}")
            async with sending(silent, secret_path, told := Told(), hosts=hosts, attempts=2, timeout_s=2) as sender:
                silent.answers = [None] * 100
                for number in range(1, 8):
                    sender.notify(make_job(silent, number, state=JobState.DONE))
                sender.notify(make_job(server, 20, state=JobState.DONE))
                await told.wait(8)
                assert told.numbers[0] == 20
                assert len(silent.calls) == 14

    asyncio.run(check())
    assert "the webhook of job job-3 is given up after 2 calls: 127.0.0.1: TimeoutError" in caplog.text


def test_an_end_that_comes_while_earlier_calls_fail_has_all_its_attempts(secret_path):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told(), attempts=3) as sender:
            server.answers = [b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"] * 4
            sender.notify(make_job(server))
            await server.wait_calls(2)
            sender.notify(make_job(server, state=JobState.DONE))
            await told.wait()
            assert server.documents[-1]["state"] == "done"
            assert told.numbers == [1]

    asyncio.run(check())


def test_a_host_that_is_not_in_the_list_is_refused_and_never_called(secret_path):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told(), hosts=("hooks.example.com",)) as sender:
            with pytest.raises(Misfit, match="webhooks may not call"):
                sender.check_url(make_job(server).submission.webhook)
            sender.notify(make_job(server, state=JobState.DONE))  # the list was changed after it was submitted
            await told.wait()
            assert server.calls == []

    asyncio.run(check())


def test_a_name_that_leads_to_a_private_address_is_not_called_unless_the_list_has_that(secret_path, caplog):
    caplog.set_level(logging.WARNING)

    async def check():
        async with WebhookServer() as server:
            name = f"localhost:{server.port}"
            async with sending(server, secret_path, told := Told(), hosts=(name,), attempts=1) as sender:
                sender.notify(make_job(server, host="localhost", state=JobState.DONE))
                await told.wait()
                assert server.calls == []
            async with sending(server, secret_path, told := Told(), hosts=(name, "127.0.0.0/8")) as sender:
                sender.notify(make_job(server, host="localhost", state=JobState.DONE))
                await told.wait()
                assert server.calls[0][1]["host"] == name

    asyncio.run(check())
    assert "is not public; add it or its network to job_webhook_hosts" in caplog.text


def test_certificates_are_checked_against_the_name(secret_path, tmp_path):
    async def check():
        authority = Authority(tmp_path)
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(*authority.issue("server"))
        trusted = authority.client()
        async with WebhookServer(server_tls) as server:
            job = make_job(server, scheme="https", state=JobState.DONE)
            async with sending(server, secret_path, told := Told(), tls=trusted) as sender:
                sender.notify(job)
                await told.wait()
                assert len(server.calls) == 1
            hosts = (f"localhost:{server.port}", "127.0.0.1")
            for wrong, tls in ((job, None), (make_job(server, scheme="https", host="localhost", state=JobState.DONE), trusted)):
                config = {"hosts": (*hosts, f"127.0.0.1:{server.port}"), "attempts": 1}
                async with sending(server, secret_path, told := Told(), tls, **config) as sender:
                    sender.notify(wrong)
                    await told.wait()
                    assert len(server.calls) == 1

    asyncio.run(check())


def test_a_job_without_a_webhook_and_one_that_is_being_told_cost_no_call(secret_path):
    async def check():
        async with WebhookServer() as server, sending(server, secret_path, told := Told()) as sender:
            job = make_job(server, state=JobState.DONE)
            sender.notify(replace(job, number=2, submission=replace(job.submission, webhook="")))
            sender.notify(job)
            sender.resume([job])
            await told.wait()
            await asyncio.sleep(0.05)
            assert len(server.calls) == 1
            sender.resume([job])  # what the store still has is told again
            await told.wait(2)

    asyncio.run(check())
