"""A server of a client that is told of jobs. It reads and writes plain bytes, so that no library hides what is sent."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class WebhookServer:
    """Keeps each call, and answers with the next of `answers`, or OK. An answer of None is no answer at all."""

    def __init__(self, tls=None):
        self.calls = []
        self.answers = []
        self.times_s = []
        self.port = 0
        self._called = asyncio.Event()
        self._tls = tls

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        body = await reader.readexactly(int(headers["content-length"]))
        self.calls.append((lines[0], headers, body))
        self.times_s.append(time.monotonic())
        self._called.set()
        answer = self.answers.pop(0) if self.answers else OK
        if answer is None:
            await reader.read()  # until the caller leaves
        else:
            writer.write(answer)
        writer.close()

    @property
    def documents(self):
        return [json.loads(body) for _, _, body in self.calls]

    async def wait_calls(self, count):
        await wait_until(self._called, lambda: len(self.calls) >= count)


async def wait_until(event, condition):
    """Waits until a condition holds that becomes true only when the event is set."""
    async with asyncio.timeout(30):
        while not condition():
            event.clear()
            await event.wait()


def is_signed(call, secret):
    """Verifies a call as a receiver does, by the words of the specification."""
    _, headers, body = call
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    expected = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ") and abs(time.time() - int(headers["webhook-timestamp"])) < 300
