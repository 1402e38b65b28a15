"""A real supervisor, and its operators: over HTTP on its Unix socket and on TCP, and by command."""

import contextlib
import hashlib
import http.client
import socket
import subprocess

import httpx

from supervisor_harness import Supervised

TOKEN = "a-token-of-more-than-twenty-characters"
OTHER_TOKEN = "another-token-of-more-than-twenty-characters"


class Operated(Supervised):
    """A supervisor, and a client of its admin API."""

    def __enter__(self):
        super().__enter__()
        # A connection a request: one that was kept may be closed by the server just when it is used again.
        alone = httpx.Limits(max_keepalive_connections=0)
        self.admin = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket), limits=alone), base_url="http://admin", timeout=60)
        self.tcp = httpx.Client(limits=alone, timeout=60)
        return self

    def __exit__(self, *error):
        if hasattr(self, "admin"):
            self.admin.close()
            self.tcp.close()
        super().__exit__(*error)

    @property
    def socket(self):
        return self.run_path / "admin.sock"

    def listen_on_tcp(self, folder):
        """Makes it listen on TCP, with a token in a file."""
        self.token_path = folder / "token"
        write_token(self.token_path, TOKEN)
        self.settings |= {"admin_port": 0, "admin_token_path": self.token_path}
        return self

    def ask_over_tcp(self, method, path, token=TOKEN, **kwargs):
        headers = kwargs.pop("headers", {}) | ({"authorization": f"Bearer {token}"} if token else {})
        return self.tcp.request(method, self.state()["admin_address"] + path, headers=headers, **kwargs)

    @contextlib.contextmanager
    def asking(self, method, path):
        """Sends a request whose body is an empty object, and yields what reads the response."""
        head = f"{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
        with self.saying(f"{head}{{}}".encode()) as client:

            def reply():
                response = http.client.HTTPResponse(client)
                response.begin()
                with response:
                    return response.read()

            yield reply

    @contextlib.contextmanager
    def saying(self, said):
        """Opens a connection to the Unix socket and sends this."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.socket))
            client.sendall(said)
            yield client

    def drop(self, path, name=None, sha256=None, **kwargs):
        content = path.read_bytes()
        headers = {"x-content-sha256": sha256 or hashlib.sha256(content).hexdigest()}
        return self.admin.put(f"/dist/{name or path.name}", content=content, headers=headers, **kwargs)

    def run(self, *words, timeout=90, env=None):
        """Runs the command as people do; `env` adds to its environment."""
        command = self.command(*(str(word) for word in words))
        given = self.environment | (env or {})
        return subprocess.run(command, env=given, cwd=self.dist, capture_output=True, text=True, timeout=timeout)


def write_token(path, token, mode=0o600):
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{token}\n")
    path.chmod(mode)
