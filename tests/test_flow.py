"""The DAG as a Prefect flow: on its own server, on a schedule, watched, killed, and offline."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Failed
from ruamel.yaml import YAML

from benchmarks.flows import FLOW, at_once, below, free_port, killed, outputs, runs, seen_at, served
from flows import pipeline
from stages.commands.status import STAGES
from stages.contract import locks
from stages.contract.errors import BusyError, UnreachableError
from stages.contract.receipts import sha256
from tests.conftest import Project, block, flows, make_project, rows, write_csv
from tests.test_package import NOWHERE, pack
from tests.test_pipeline import EQUAL
from tests.test_preflight import ALLOWED

PREFECT = str(Path(sys.executable).with_name("prefect"))
REFIT = str(Path(sys.executable).with_name("refit"))
WATCH = (sys.executable, "-m", "flows.watch")
SEEN = "number of rows: expect_table_row_count_to_be_between (min_value 20) observed {};"
LISTENER = """
import os, sys
def hear(event, arguments):
    if event == "socket.getaddrinfo" or event == "socket.connect":
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = host[0] if isinstance(host, tuple) else host
        host = host.decode(errors="replace") if isinstance(host, bytes) else host
        if isinstance(host, str) and not host.startswith(("127.", "/", "\\0")) \
and host not in ("localhost", "::1", "", "0.0.0.0", "::"):
            with open(os.environ["HEARD"], "a") as file:
                file.write(f"{event} {host} by {sys.argv}\\n")
sys.addaudithook(hear)
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables by which every Python process logs each host that it looks up or connects to.

    This host is left out.
    """
    folder = tmp_path_factory.mktemp("heard")
    (folder / "sitecustomize.py").write_text(LISTENER)
    return {"PYTHONPATH": str(folder), "HEARD": str(folder / "heard")}


def test_the_listener_hears(heard: dict[str, str], project: Project) -> None:
    mine = heard | {"HEARD": f"{heard['HEARD']}_too"}
    project.run(
        sys.executable,
        "-c",
        "import socket\ntry: socket.create_connection(('192.0.2.1', 9), .1)\nexcept OSError: pass",
        **mine,
    )
    assert "192.0.2.1" in Path(mine["HEARD"]).read_text()


@pytest.fixture(scope="module")
def server(
    finished: Project, tmp_path_factory: pytest.TempPathFactory, heard: dict[str, str]
) -> Iterator[Project]:
    """A project in which every stage has run, with its servers."""
    project = finished.copy(tmp_path_factory.mktemp("served") / "project")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in heard.items():
            patch.setenv(name, value)
        with served(project):
            yield project
    assert not Path(heard["HEARD"]).exists() or Path(heard["HEARD"]).read_text() == ""


def until(process: "subprocess.Popen[str]", said: str) -> None:
    """Read what a process writes until it writes this."""
    assert process.stdout
    lines = list[str]()
    for line in process.stdout:
        lines.append(line)
        if said in line:
            return
    raise AssertionError("".join(lines))


def last(project: Project) -> dict[str, Any]:
    """Return the last run of a project's server."""
    return runs(project)[0]


@pytest.mark.slow
def test_a_flow_runs_every_stage_and_one_task_s_failure_does_not_stop_another(
    done: Project, tmp_path: Path, tiny_base: Path, heard: dict[str, str]
) -> None:
    """Task `broken` has too few rows for its own limits.

    Task `tiny` must still end with a champion, and with the bytes that were made elsewhere. If the
    machine allows it, the flow runs in a namespace without a network: it has a Prefect server of
    its own, and asks nothing of another host.
    """
    broken = block()
    broken["validate"]["min_rows"] = 100_000
    project = make_project(tmp_path / "project", tiny_base, {"tiny": block(), "broken": broken})
    alone = (
        ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if ALLOWED
        else []
    )
    environment = heard | {"PREFECT_HOME": str(tmp_path / "prefect")}
    ran = project.run(*alone, *FLOW, ok=False, **environment)
    output = ran.stdout + ran.stderr
    assert ran.returncode == 1, output
    assert "no Prefect server is named; this run gets one of its own" in ran.stderr.splitlines()[0]
    assert (project.root / "data/register/tiny/decision.json").is_file(), output
    assert not (project.root / "data/augment/broken").exists()
    for name in EQUAL:
        assert (done.root / "data" / name).read_bytes() == (
            project.root / "data" / name
        ).read_bytes(), name
    said = next(line for line in reversed(ran.stderr.splitlines()) if line.startswith("refit: "))
    assert said.startswith("refit: 7 of 14 stages did not complete"), said
    assert all(
        f"{stage}@broken" in said
        for stage in ("validate", "augment", "split", "finetune", "export", "evaluate", "register")
    )
    assert "integrity, number of rows" in said, "the stage's own line is the reason"
    assert not Path(heard["HEARD"]).exists(), "nothing was asked of another host"


def test_an_unknown_task_is_refused_by_name(done: Project) -> None:
    run = done.run(*FLOW, "nobody", ok=False)
    assert run.returncode == 2
    known = ", ".join(YAML(typ="safe").load(done.root / "params.yaml")["tasks"])
    assert run.stderr == f"refit: there is no task 'nobody'; have: {known}\n"


def test_what_does_not_answer_is_tried_again_and_what_is_wrong_is_not() -> None:
    def tried_again(code: int) -> bool:
        return pipeline._is_worth_another_try(
            None, None, Failed(data=pipeline.StageError("a line", code))
        )

    assert [code for code in range(6) if tried_again(code)] == [
        BusyError.exit_code,
        UnreachableError.exit_code,
    ]


def test_a_server_that_does_not_answer_is_said_within_seconds(done: Project) -> None:
    began = time.monotonic()
    run = done.run(*FLOW, ok=False, PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    assert run.returncode == 4
    assert "does not answer within 5 s" in run.stderr
    assert time.monotonic() - began < 20
    assert done.run(sys.executable, "-m", "flows.schedule", ok=False).returncode == 4, (
        "a schedule needs a server"
    )


def test_servers_are_for_this_machine_and_who_has_the_password(server: Project) -> None:
    import requests

    client = server.root / "prefect.toml"
    assert stat.S_IMODE(client.stat().st_mode) == 0o600
    assert stat.S_IMODE((server.root / ".prefect/prefect.db").stat().st_mode) == 0o600
    url = re.findall('url = "(.*)/api"', client.read_text())[0]
    assert requests.post(f"{url}/api/flow_runs/filter", json={}, timeout=10).status_code in (
        401,
        403,
    )
    assert "127.0.0.1" in url
    mlflow = json.loads((server.root / "data/.work/servers/mlflow.json").read_text())["url"]
    asked = f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(asked, timeout=10).status_code == 200
    assert requests.get(asked, timeout=10, headers={"Host": "10.evil.example"}).status_code == 403
    again = server.run(sys.executable, "-m", "flows.servers", "up")
    assert again.stdout.count("runs already") == 2


def test_a_port_that_is_taken_is_named(project: Project) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        ran = project.run(
            sys.executable, "-m", "flows.servers", "up", f"mlflow={other.server_port}", ok=False
        )
    assert ran.returncode == 2
    assert f"127.0.0.1:{other.server_port}: Address already in use" in ran.stderr
    assert not (project.root / "data/.work/servers/mlflow.json").exists()


def test_prefect_s_pages_ask_their_own_server_alone(server: Project) -> None:
    """By default they ask port 4200, whatever listens there, and an analytics host."""
    import requests

    url = json.loads((server.root / "data/.work/servers/prefect.json").read_text())["url"]
    settings = requests.get(f"{url}/ui-settings", timeout=10).json()
    assert settings["api_url"] == f"{url}/api"
    for version in ("v1", "v2"):
        page = requests.get(f"{url}/{version}/" if version == "v2" else url, timeout=10).text
        assert f"connect-src 'self' ws://{url.removeprefix('http://')}" in page


def asked_by(page: str, folder: Path) -> set[str]:
    """Return the origins that a page asks when it is opened in Chromium, from its network log."""
    log = folder / f"{len([*folder.iterdir()])}.json"
    options = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "dump-dom",
               f"log-net-log={log}", f"user-data-dir={folder}/profile",
               "virtual-time-budget=12000")  # fmt: skip
    subprocess.run(
        ["chromium", *(f"--{option}" for option in options), page],
        capture_output=True,
        timeout=120,
        check=True,
    )
    found = json.loads(log.read_text())
    begun = found["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [event.get("params", {}) for event in found["events"] if event["type"] == begun]
    asked = [params for params in events if "url" in params]
    # without an initiator it is the page itself, or Chromium on its own behalf
    return {
        "/".join(of["url"].split("/")[:3])
        for of in asked
        if of.get("initiator", "not an origin") != "not an origin"
    }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_pages_in_a_browser_ask_their_own_server_alone(
    server: Project, done: Project, tmp_path: Path
) -> None:
    """Two servers of Prefect's on two ports, neither of them 4200, and MLflow's beside them."""
    other = done.copy(tmp_path / "other")
    with served(other):
        for project in (server, other):
            for name, page in (("prefect", "/dashboard"), ("mlflow", "/#/models")):
                record = project.root / f"data/.work/servers/{name}.json"
                url = json.loads(record.read_text())["url"]
                assert asked_by(url + page, tmp_path) == {url}, name
    done.run(sys.executable, "-m", "stages.project.plots")
    page = tmp_path / "plots"
    done.run("dvc", "plots", "show", "-o", str(page), "--html-template", ".dvc/plots.html")
    for path in (page / "index.html", done.root / "data/evaluate/tiny/report.html"):
        assert asked_by(path.as_uri(), tmp_path) <= {"file://", "data:"}, path


def test_nothing_runs_when_nothing_changed_and_a_dry_run_says_what_would(server: Project) -> None:
    ran = server.run(*FLOW)
    assert ran.stdout.splitlines()[-1] == "NothingToDo: nothing to do: none of 7 stages changed"
    assert (last(server)["state"], last(server)["type"]) == ("NothingToDo", "COMPLETED")
    server.params(lambda document: document["tasks"]["tiny"]["finetune"].update(epochs=1))
    before = outputs(server)
    ran = server.run(*FLOW, "tiny", "--dry-run")
    server.params(lambda document: document["tasks"]["tiny"]["finetune"].update(epochs=3))
    assert "dry run: 4 of 7 stages would run, or may" in ran.stdout
    assert (
        "finetune@tiny: would run: changed deps: params.yaml: tasks.tiny.finetune: modified"
        in ran.stderr
    )
    assert (
        "evaluate@tiny: would run if export@tiny or finetune@tiny writes other bytes" in ran.stderr
    )
    assert outputs(server) == before


def test_a_run_beside_another_is_cancelled_and_names_it(server: Project) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(server.root)
        with locks.Lock(Path("data/.work/flow")):
            ran = server.run(*FLOW, ok=False)
    assert ran.returncode == 3
    assert f"data/.work/flow/lock: process {os.getpid()} on" in ran.stderr.splitlines()[-1]
    assert last(server)["type"] == "CANCELLED"
    assert f"process {os.getpid()}" in last(server)["why"]


@pytest.mark.slow
def test_a_worker_of_a_pool_runs_the_deployment_once(server: Project) -> None:
    server.run(sys.executable, "-m", "flows.schedule", "--pool", "here")
    server.run(
        PREFECT, "--no-prompt", "deployment", "run", "refit/pipeline", "-p", 'tasks=["tiny"]'
    )
    worker = server.run(PREFECT, "--no-prompt", "worker", "start", "--pool", "here", "--run-once")
    until = time.monotonic() + 60
    while (
        last(server)["type"] not in ("COMPLETED", "FAILED", "CRASHED") and time.monotonic() < until
    ):
        time.sleep(1)
    assert last(server)["state"] == "NothingToDo", worker.stdout + worker.stderr


@pytest.mark.parametrize(
    ("cron", "zone", "fact"),
    [
        ("61 * * * *", "UTC", "flows.pipeline.cron: '61 * * * *' is no schedule"),
        ("0 3 * * *", "Mars/Olympus", "is no time zone by that name"),
    ],
)
def test_no_cron_or_time_zone_by_that_name(
    server: Project, tmp_path: Path, cron: str, zone: str, fact: str
) -> None:
    kept = (server.root / "params.yaml").read_text()
    server.params(
        lambda document: (
            document["flows"].update(timezone=zone),
            document["flows"]["pipeline"].update(cron=cron),
        )
    )
    ran = server.run(sys.executable, "-m", "flows.schedule", ok=False)
    (server.root / "params.yaml").write_text(kept)
    assert ran.returncode == 2
    assert fact in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.slow
def test_watch_runs_what_is_due_and_says_why(server: Project, tmp_path: Path) -> None:
    """At first nothing is due.

    Then the champion is old; then recent predictions are like nothing it knows; then data changed.
    """
    kept = (server.root / "params.yaml").read_text()
    assert (
        "NotDue: not due: tiny: data did not change, the champion is 0.0 days old (at most 90)"
        in server.run(*WATCH).stdout
    )

    server.params(lambda document: document["flows"]["watch"].update(max_age_days=1e-6))
    said = server.run(*WATCH, "tiny").stdout
    assert (
        "Due: due (tiny: the champion is 0.0 days old (at most 1e-06)); "
        "data and settings are those of the last candidate" in said
    )
    (server.root / "params.yaml").write_text(kept)

    write_csv(
        tmp_path / "new.csv",
        [
            {"text": f"{number} 99999999999999999999999 8888888888888888888 {number}"}
            for number in range(200)
        ],
    )
    server.run(
        REFIT,
        "predict",
        "tiny",
        str(tmp_path / "new.csv"),
        "--out",
        str(tmp_path / "new.parquet"),
        "--log",
    )
    said = server.run(*WATCH).stdout
    assert re.search(
        r"Due: due \(tiny: logged predictions: \d of \d measures far \(.*characters.*\), "
        r"at most 0\)",
        said,
    ), said

    table = server.root / "data/raw/reviews/train.csv"
    before = table.read_bytes()
    write_csv(table, rows(6))
    ran = server.run(*WATCH, ok=False)
    table.write_bytes(before)
    assert ran.returncode == 1
    assert "due (tiny: data/raw/reviews changed" in ran.stderr.splitlines()[-1]
    assert "the run ended as Failed: 7 of 7 stages did not complete" in ran.stderr.splitlines()[-1]
    assert (server.root / "data/register/tiny/decision.json").is_file() or server.run(
        *FLOW
    ).returncode == 0


@pytest.mark.slow
def test_a_block_of_prefect_s_is_told_of_a_run_that_failed(server: Project) -> None:
    told = list[bytes]()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        make = f"""
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook
Hook(name="hook", url="http://127.0.0.1:{hook.server_port}/", \
json_data={{"subject": "{{{{subject}}}}", "body": "{{{{body}}}}"}}).save("hook")
"""
        server.run(sys.executable, "-c", make)
        kept = (server.root / "params.yaml").read_text()
        server.params(lambda document: document["flows"].update(notify="custom-webhook/nobody"))
        lacking = server.run(sys.executable, "-m", "flows.schedule", "--pool", "here", ok=False)
        assert lacking.returncode == 2
        assert "flows.notify: Prefect has no block 'custom-webhook/nobody'" in lacking.stderr
        server.params(lambda document: document["flows"].update(notify="custom-webhook/hook"))
        server.run(sys.executable, "-m", "flows.schedule", "--pool", "here")
        server.params(
            lambda document: document["tasks"]["tiny"]["validate"].update(min_rows=100_000)
        )
        time.sleep(3)  # for the automation to be loaded
        assert server.run(*FLOW, ok=False).returncode == 1
        until = time.monotonic() + 60
        while not told and time.monotonic() < until:
            time.sleep(0.5)
        (server.root / "params.yaml").write_text(kept)
        hook.shutdown()
    assert told
    said = json.loads(told[0])
    assert said["subject"] == "refit: Failed"
    assert "stages did not complete: validate@tiny" in said["body"]
    assert "integrity, number of rows" in said["body"]
    server.run(*FLOW)  # as it was


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_stops_its_stage_and_the_next_run_goes_on(
    server: Project,
) -> None:
    wanted = outputs(server)
    process = subprocess.Popen(
        [*FLOW, "--force"],
        cwd=server.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(process, "python -m stages.")
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert time.monotonic() - began < 30
    assert (
        "stopped by SIGTERM; the same run again goes on where this one ended"
        in output.splitlines()[-1]
    )
    assert below(server) == []
    assert last(server)["type"] == "CRASHED"
    server.run(*FLOW)
    assert outputs(server) == wanted


@pytest.mark.slow
def test_a_server_that_dies_during_a_run_costs_no_stage_and_the_next_run_ends_that_one(
    finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "project").forget("register")
    with served(project):
        process = subprocess.Popen(
            FLOW,
            cwd=project.root,
            env=os.environ | {"PREFECT_CLIENT_MAX_RETRIES": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(process, "python -m stages.register")
        server = json.loads((project.root / "data/.work/servers/prefect.json").read_text())
        os.killpg(server["pid"], signal.SIGKILL)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 4, output
        assert "register@tiny leaves no artifacts: Prefect's server does not answer" in output
        assert "\nrefit: Prefect's server went away and did not learn how this run ended" in output
        project.run(
            sys.executable,
            "-m",
            "flows.servers",
            "up",
            f"prefect={server['url'].rpartition(':')[2]}",
        )
        project.run(*FLOW)
        assert [of["state"] for of in runs(project)] == ["NothingToDo", "Crashed"]
        assert f"its process {process.pid} on" in runs(project)[1]["why"]


@pytest.mark.slow
def test_refresh_brings_what_is_imported_up_to_date_and_a_source_that_is_away_stays_as_it_was(
    server: Project, fresh: Project, tmp_path: Path
) -> None:
    """Six rows are too few, so each run ends at validate: its message says which rows it saw."""
    project, environment = fresh.copy(tmp_path / "project"), seen_at(server)
    wheel = pack(tmp_path, {"toy/data/words.txt": "w"})
    toy = {
        "name": "package",
        "requirement": "toy==1.0",
        "sha256": sha256(wheel),
        "root": "toy/data",
        "members": ["words.txt"],
        "seconds": 60.0,
    }
    upstream = tmp_path / "upstream"
    write_csv(upstream / "train.csv", rows(6))
    project.run("dvc", "remove", "data/raw/reviews.dvc")
    shutil.rmtree(project.root / "data/raw/reviews")
    project.run("dvc", "import-url", str(upstream), "data/raw/reviews")
    project.params(
        lambda document: document["sources"].update(
            toy={"origin": toy, "format": {"name": "as_is"}, "licence": "CC0"}
        )
    )
    project.params(lambda document: document["tasks"]["tiny"].update(base="toy"))
    here = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent), "PIP_CONFIG_FILE": os.devnull}

    first = project.run(*FLOW, ok=False, **environment, **here)
    assert SEEN.format(6) in first.stderr.splitlines()[-1], first.stderr
    write_csv(upstream / "train.csv", rows(7))
    assert (
        SEEN.format(6)
        in project.run(*FLOW, ok=False, **environment, **here).stderr.splitlines()[-1]
    ), "not asked for"
    again = project.run(*FLOW, "--refresh", ok=False, **environment, **here)
    assert SEEN.format(7) in again.stderr.splitlines()[-1]
    assert "Running stage 'fetch@toy'" in again.stderr

    away = project.run(*FLOW, "--refresh", ok=False, **environment, **NOWHERE)
    assert away.returncode == 1
    assert away.stderr.count("Running stage 'fetch@toy'") == 1 + flows()["retries"], (
        "another try may help"
    )
    assert "fetch@toy: refit: " in away.stderr.splitlines()[-1]
    assert (project.root / "data/raw/toy/words.txt").read_text() == "w"
    shutil.rmtree(upstream)
    gone = project.run(*FLOW, "--refresh", ok=False, **environment, **here)
    assert gone.returncode == 1
    assert "data/raw/reviews.dvc: ERROR: " in gone.stderr.splitlines()[-1]
    assert (project.root / "data/raw/reviews/train.csv").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "first", "moment"),
    [("stage", "finetune", 0.4), ("dvc", "evaluate", 0.4), ("flow", "register", 0.3)],
)
def test_a_kill_loses_nothing(
    server: Project, finished: Project, tmp_path: Path, what: str, first: str, moment: float
) -> None:
    """The drill of `python -m benchmarks.flows kill`, shortened.

    What comes before the stage that is killed has already run.
    """
    project = finished.copy(tmp_path / "project").forget(*STAGES[STAGES.index(first) :])
    found = killed(project, what, moment, 20, outputs(server), seen_at(server))
    assert (found.hit, found.wrong) == (True, [])


@pytest.mark.slow
def test_four_processes_that_meet_an_empty_store_at_once_all_work(
    fresh: Project, tmp_path: Path
) -> None:
    ask = (
        sys.executable,
        "-c",
        "from stages.registry import registered; print(registered.champion('nobody'))",
    )
    assert at_once([fresh.copy(tmp_path / "project")] * 4, ask, {}) == [0] * 4
