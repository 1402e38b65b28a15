"""Not a model server: a constant response of uvicorn, which is an upper limit for any server on uvicorn."""

import os

import uvicorn

REPLY = b'{"id":"00000000000000000000000000000000","predictions":[4.958217165475243]}'
"""A body of the same length as Pexdock's."""


async def app(scope, receive, send):
    """Reads the request, and returns a constant."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(REPLY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": REPLY})


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")
