"""Start MLflow's and Prefect's servers for this project, on this machine alone, and stop them.

Measured with their defaults (MLflow 3.17, Prefect 3.8): Prefect answers any page of any site
without a password, and MLflow runs jobs and reads pickles. So both listen on 127.0.0.1 and name the
hosts and origins that may ask. Prefect also asks for a password, which is drawn here and written to
prefect.toml, where Prefect's own commands read it.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stages.contract import locks, receipts, runner, store
from stages.contract.errors import ParamsError, UnreachableError, told
from stages.contract.escape import one_line

HOST = "127.0.0.1"
STATE = Path("data/.work/servers")
HOME = Path(".prefect")  # of Prefect's server: its database
PAGES = HOME / "pages"  # that Prefect's server copies there and serves
# Prefect's page asks amplitude.com when it opens, and no setting of Prefect's stops that.
CONFINED = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'self\' data: blob: '
    "'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws://{host}\">"
)
CLIENT = Path("prefect.toml")  # every command of Prefect's in this folder reads it
MADE = "# Written by `make up`, removed by `make down`: holds a password.\n"
# MLflow's pages open for traces of language models; this opens those of runs and versions.
TRAINING = "workflowType=machine_learning"
SECONDS = 120.0  # to start: 13 s when nothing else runs


@dataclass(frozen=True)
class Server:
    """How to start one server.

    That is its command, the variables that harden it, and where it says that it is well.
    """

    name: str
    port: int
    health: str
    command: list[str]
    environment: dict[str, str]
    page: str = ""
    """what its address opens with, for a person"""

    @property
    def url(self) -> str:
        """Return the server's address."""
        return f"http://{HOST}:{self.port}"


def mlflow(port: int) -> Server:
    """Return MLflow's server over mlflow.db.

    A model version is a logged model, or files in MLflow's own folder of artifacts.
    """
    sources = (
        r"^(models:/m-[0-9a-f]{32}|"
        rf"(mlflow-artifacts:/|(file://)?{re.escape(str(Path.cwd()))}/mlruns/).*)$"
    )
    return Server(
        "mlflow",
        port,
        "/health",
        ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
         "--backend-store-uri", "sqlite:///mlflow.db",
         "--allowed-hosts", f"localhost:{port},{HOST}:{port}",
         "--cors-allowed-origins", f"http://{HOST}:{port}"],
        {
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": sources,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        f"/#/models?{TRAINING}",
    )  # fmt: skip


def prefect(port: int) -> Server:
    """Return Prefect's server over .prefect/prefect.db, with the password of prefect.toml."""
    return Server(
        "prefect",
        port,
        "/api/health",
        ["prefect", "server", "start", "--host", HOST, "--port", str(port)],
        {
            "PREFECT_HOME": str(HOME.resolve()),
            "PREFECT_API_URL": "",  # or the server would take itself for a client of another
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_API_AUTH_STRING": password(),
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            # Else a page at another port asks port 4200, and hands it the password.
            "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(PAGES.resolve()),
        },
    )


SERVERS: dict[str, Callable[[int], Server]] = {"mlflow": mlflow, "prefect": prefect}


def up(ports: dict[str, int]) -> list[str]:
    """Start the named servers unless they run already, and wait until all answer.

    Returns a line for each. Raises ParamsError if a port is taken, UnreachableError if a server
    does not answer in time.
    """
    HOME.mkdir(mode=0o700, exist_ok=True)
    lines = list[str]()
    with locks.Lock(STATE):
        for name, port in ports.items():
            if alive := running().get(name):
                lines.append(f"{name}: {alive['url']} (runs already, since {alive['since']})")
                continue
            server = SERVERS[name](port)
            _start(server)
            lines.append(f"{name}: {server.url}{server.page}")
            if name == "prefect":
                _confine(server)
                lines.append(f"  its page asks for a password, once: {password()}")
    return lines


def down() -> list[str]:
    """Stop the servers that `up` started, forget their password, and return a line for each."""
    lines = list[str]()
    for name, entry in running().items():
        process = psutil.Process(entry["pid"])
        os.killpg(entry["pid"], signal.SIGTERM)
        try:
            process.wait(20)
        except psutil.TimeoutExpired:
            os.killpg(entry["pid"], signal.SIGKILL)
        lines.append(f"{name}: stopped")
    for record in STATE.glob("*.json"):
        record.unlink()
    if CLIENT.is_file() and CLIENT.read_text("utf-8").startswith(MADE):
        CLIENT.unlink()
    return lines or ["no server of `make up` runs here"]


def running() -> dict[str, dict[str, Any]]:
    """Return url, since, and what names the process, for each server by name.

    The servers are those that `up` started and that are still alive.
    """
    records = {
        name: receipts.read_json(record)
        for name in SERVERS
        if (record := STATE / f"{name}.json").is_file()
    }
    return {name: entry for name, entry in records.items() if locks.lives(entry)}


def password() -> str:
    """Return the user and password for Prefect from prefect.toml, or draw them.

    Raises ParamsError if that file is somebody else's.
    """
    if not CLIENT.exists():
        return f"refit:{secrets.token_urlsafe(24)}"
    if not (text := CLIENT.read_text("utf-8")).startswith(MADE):
        raise ParamsError(
            f"{CLIENT}: was not written by `make up`, which must write its own; move it away"
        )
    return tomllib.loads(text)["api"]["auth_string"]


def _require_free(server: Server) -> None:
    """Raise ParamsError if the server's port is taken."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((HOST, server.port))
        except OSError as error:
            raise ParamsError(
                f"{HOST}:{server.port}: {error.strerror}; "
                f"name another, such as `make up {server.name.upper()}_PORT={server.port + 1}`"
            ) from None


def _confine(server: Server) -> None:
    """Let Prefect's pages connect to their own server alone."""
    policy = CONFINED.format(host=server.url.removeprefix("http://"))
    head = re.compile('<head>(<meta http-equiv="Content-Security-Policy"[^>]*>)?')
    for page in PAGES.glob("*/index.html"):
        page.write_text(head.sub(f"<head>{policy}", page.read_text("utf-8"), count=1), "utf-8")


def _start(server: Server) -> None:
    _require_free(server)
    log = STATE / f"{server.name}.log"
    if server.name == "prefect":
        _tell_clients(server)
    # two servers that make MLflow's tables at the same time break them
    with log.open("w") as output, locks.alone(locks.STORE):
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(server.command[0])), *server.command[1:]],
            env=os.environ | server.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
        )
        of = {"url": server.url, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        receipts.write_json(STATE / f"{server.name}.json", of | locks.process(process.pid))
        _wait(server, process, log)


def _wait(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    import requests

    user, _, secret = password().partition(":")
    auth, until = (user, secret), time.monotonic() + SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            lines = log.read_text("utf-8", "replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "")
            raise UnreachableError(
                f"{server.name}: ended with {process.returncode} before it answered; "
                f"see {log} ({one_line(last, 300)})"
            )
        try:
            if requests.get(server.url + server.health, timeout=2, auth=auth).ok:
                return
        except requests.RequestException:
            time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    raise UnreachableError(
        f"{server.name}: {server.url} does not answer within {SECONDS:g} s; see {log}"
    )


def _tell_clients(server: Server) -> None:
    """Write address and password where Prefect's commands in this folder look.

    Only the file's owner can read it.
    """
    text = (
        f"{MADE}[api]\nurl = {json.dumps(f'{server.url}/api')}\nauth_string = "
        f"{json.dumps(server.environment['PREFECT_SERVER_API_AUTH_STRING'])}\n"
    )
    CLIENT.unlink(missing_ok=True)
    with open(  # noqa: PTH123  (a mode from the first byte on)
        os.open(CLIENT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)


def main() -> None:
    """Carry out `up [NAME=PORT...]` or `down`.

    What the user can mend ends as one line and an exit code.
    """
    runner.quiet()
    what, *ports = sys.argv[1:] or [""]
    with told():
        if what not in ("up", "down") or not all(
            re.fullmatch(rf"({'|'.join(SERVERS)})=\d{{1,5}}", port) for port in ports
        ):
            raise ParamsError(
                "usage: python -m flows.servers up [mlflow=PORT] [prefect=PORT] | down"
            )
        named = {name: int(port) for name, port in (entry.split("=") for entry in ports)}
        for line in up(named or store.PORTS) if what == "up" else down():
            print(line)


if __name__ == "__main__":
    main()
