"""Obstacles to DVC are found before it runs.

They are a cut dvc.lock, a full disk, a folder that cannot be written to, and a pipe among the data.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.contract import locks, settings
from stages.contract.errors import BusyError, DagError, DataError
from stages.project import preflight
from tests.conftest import ROOT, Project

WHOLE = "schema: '2.0'\nstages:\n  split@tiny:\n    cmd: python -m stages.split tiny\n"
PRIVATE = ["unshare", "--map-root-user", "--mount"]  # a mount that ends with the command
ALLOWED = (
    subprocess.run(
        [*PRIVATE, "--pid", "--fork", "true"], capture_output=True, check=False
    ).returncode
    == 0
)
namespaces = pytest.mark.skipif(
    not ALLOWED, reason="this machine lets its users make no namespaces"
)
PREFLIGHT = [sys.executable, "-m", "stages.project.preflight"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.chdir(tmp_path)
    preflight.require_writable()
    return tmp_path


def test_a_lock_file_that_was_cut_off_is_brought_back_from_its_copy(here: Path) -> None:
    Path("dvc.lock").write_text(WHOLE)
    assert preflight.mend() == []
    for cut in ("", WHOLE[:20], WHOLE[:40] + "\0", "stages: 3\n"):
        Path("dvc.lock").write_text(cut)
        (said,) = preflight.mend()
        assert said.startswith(f"dvc.lock: could not be read ({len(cut)} bytes")
        assert Path("dvc.lock").read_text() == WHOLE
        assert Path("data/.work/dvc.lock.damaged").read_text() == cut


def test_the_copy_follows_a_lock_file_that_is_whole(here: Path) -> None:
    for text in (WHOLE, WHOLE + "    md5: abc\n"):
        Path("dvc.lock").write_text(text)
        assert preflight.mend() == []
        assert preflight.KEPT.read_text() == text


def test_a_damaged_lock_file_without_a_copy_or_in_the_midst_of_a_merge_is_a_person_s_to_choose(
    here: Path,
) -> None:
    Path("dvc.lock").write_text("")
    with pytest.raises(
        DagError,
        match=(
            r"dvc.lock: cannot be read \(0 bytes\), and no copy is kept; "
            r"remove it, or `git checkout dvc.lock`"
        ),
    ):
        preflight.mend()
    Path("dvc.lock").write_text(WHOLE)
    preflight.mend()
    merging = f"<<<<<<< ours\n{WHOLE}=======\n{WHOLE}>>>>>>> theirs\n"
    Path("dvc.lock").write_text(merging)
    with pytest.raises(DagError, match="marks of a merge"):
        preflight.mend()
    assert Path("dvc.lock").read_text() == merging


@pytest.mark.parametrize(
    ("text", "kept"), [("", False), ('{"read": {', False), ('{"read": {}, "write": {}}', True)]
)
def test_a_list_of_locks_that_dvc_cannot_read_is_removed(here: Path, text: str, kept: bool) -> None:
    preflight.RWLOCK.parent.mkdir(parents=True)
    preflight.RWLOCK.write_text(text)
    assert (preflight.mend() == []) == kept
    assert preflight.RWLOCK.exists() == kept


def test_the_holder_of_a_lock_is_named_and_remembered(here: Path) -> None:
    taken = (
        "from stages.contract.locks import Lock\n"
        "with Lock(Path('held'), run='r1'): print(1, flush=True); time.sleep(60)"
    )
    holder = f"import time; from pathlib import Path; {taken}"
    with subprocess.Popen(
        [sys.executable, "-c", holder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout and process.stdout.readline()
        with (
            pytest.raises(
                BusyError,
                match=(
                    rf"held/lock: process {process.pid} on \S+ has held it since \S+ \(-c\); "
                    r"wait for it, or stop it"
                ),
            ),
            locks.Lock(Path("held")),
        ):
            pass
        assert locks.lives(locks.process(process.pid))
        process.kill()
        # Dead, but not taken from the table of processes.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with (lock := locks.Lock(Path("held"))):
            assert lock.before["run"] == "r1"
            assert not locks.lives(lock.before)
    with (lock := locks.Lock(Path("held"))):
        assert lock.before["pid"] == os.getpid()
        assert locks.lives(lock.before)
        assert not locks.lives(lock.before | {"started": lock.before["started"] - 1}), (
            "another process of the same number"
        )
    assert not locks.lives(locks.process(os.getpid()) | {"host": "elsewhere"})


@namespaces
def test_a_second_run_in_another_namespace_of_processes_sees_the_lock(here: Path) -> None:
    """DVC's own lock is the number of a process, which is a dead one to another container."""
    other = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c",
             "from pathlib import Path; from stages.contract.locks import Lock\n"
             "with Lock(Path('held')): print('in')"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with locks.Lock(Path("held")):
        done = subprocess.run(other, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"BusyError: held/lock: process {os.getpid()} on" in done.stderr
    assert (
        subprocess.run(other, env=environment, capture_output=True, text=True, check=True).stdout
        == "in\n"
    )


def small(project: Project, size: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the project on a disk of that size."""
    disk = project.root.parent / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={size} none "{disk}" && '
        f'cp -a "{project.root}/." "{disk}" && cd "{disk}" && exec "$@"'
    )
    return project.run(*PRIVATE, "sh", "-c", script, "sh", *command, ok=False)


@namespaces
def test_a_disk_without_room_is_named_with_its_bytes_before_dvc_starts(project: Project) -> None:
    done = small(project, "60m", *PREFLIGHT)
    assert done.returncode == 2, done.stderr
    said, free, need = (
        done.stderr.removeprefix("refit: ").split(": ")[0],
        *[int(n.replace(",", "")) for n in done.stderr.split() if n.replace(",", "").isdigit()],
    )
    assert said == str(project.root.parent / "disk")
    assert free < 60 * 2**20 < need
    assert "bytes are free" in done.stderr


@namespaces
def test_a_disk_that_is_full_is_said_of_the_registry_without_its_statement(
    project: Project,
) -> None:
    code = (
        "from stages.registry import registered\nfrom stages.contract.errors import told\n"
        "with told(): registered.champion('nobody')"
    )
    done = small(
        project,
        "60m",
        "sh",
        "-c",
        'cat /dev/zero > ballast; exec "$@"',
        "sh",
        sys.executable,
        "-c",
        code,
    )
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "mlflow.db: (sqlite3.OperationalError) database or disk is full; "
        "see that it is up, and repeat"
    )


@namespaces
def test_a_folder_that_cannot_be_written_to_is_named(project: Project) -> None:
    root = project.root
    script = (
        f'mount --bind "{root}" "{root}" && mount -o remount,bind,ro "{root}" && '
        f'cd "{root}" && exec "$@"'
    )
    done = project.run(*PRIVATE, "sh", "-c", script, "sh", *PREFLIGHT, ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"refit: {root}/data/.work: Read-only file system; "
        "the project's folder must be one that this user can write to\n"
    )


def test_a_pipe_among_the_data_is_named_before_dvc_would_hang_on_it(project: Project) -> None:
    os.mkfifo(project.root / "data/raw/reviews/pipe")
    done = project.run(*PREFLIGHT, ok=False)
    assert done.returncode == 2
    assert "pipe is not a regular file" in done.stderr


def test_two_tasks_that_run_at_once_need_room_for_both(here: Path) -> None:
    from stages.contract import settings

    params = settings.load(ROOT / "params.yaml")
    free = shutil.disk_usage(".").free
    each = free // (2 * preflight.COPIES) + preflight.LEAST
    preflight.require_space(params, {"one": (free // (2 * preflight.COPIES) - preflight.LEAST, 0)})
    with pytest.raises(DataError, match="bytes are free"):
        preflight.require_space(params, {"one": (each, 0), "two": (each, 0), "three": (0, 0)})
    assert json.dumps(params.flows.side_by_side) == "2"


def test_what_a_stopped_fine_tuning_left_counts_as_room(here: Path) -> None:
    from stages.contract import settings

    params, left = (
        settings.load(ROOT / "params.yaml"),
        Path("data/.work/finetune/one/checkpoints/abc/checkpoint-1/optimizer.pt"),
    )
    left.parent.mkdir(parents=True)
    with left.open("wb") as file:
        file.truncate(20 * preflight.LEAST)  # a hole: it takes no room
    base = (shutil.disk_usage(".").free + 10 * preflight.LEAST) // preflight.COPIES
    preflight.require_space(params, {"one": (base, 0)})
    with pytest.raises(DataError, match="bytes are free"):
        preflight.require_space(params, {"other": (base, 0)})


@pytest.mark.parametrize("evil", ["x; touch PWNED; #", "$(touch PWNED)"])
def test_a_name_in_params_yaml_runs_nothing_in_the_shell_of_a_bare_dvc_repro(
    project: Project, evil: str
) -> None:
    project.params(
        lambda p: p["sources"].update(
            {evil: {"origin": {"name": "package"}, "format": {"name": "as_is"}, "licence": "none"}}
        )
    )
    said = project.repro(ok=False)
    assert said.returncode
    assert not list(project.root.rglob("PWNED"))


def test_a_command_has_the_project_for_itself_until_it_ends(project: Project) -> None:
    """This is so in two containers of one host, too: flock knows no containers."""
    with subprocess.Popen([*PREFLIGHT, "sleep", "60"], cwd=project.root, env=os.environ) as first:
        lock = project.root / "data/.work/flow/lock"
        for _ in range(600):
            if lock.exists() and lock.read_text():
                break
            time.sleep(0.1)
        second = project.run(*PREFLIGHT, "true", ok=False)
        first.kill()
    assert second.returncode == BusyError.exit_code
    assert f"process {first.pid}" in second.stderr
    assert project.run(*PREFLIGHT, "echo", "free").stdout == "free\n"


def test_a_stage_that_runs_is_known_before_dvc_takes_its_outputs_away(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    params = settings.load()
    with (
        locks.Lock(Path("data/.work/finetune/tiny")),
        pytest.raises(BusyError, match=r"data/.work/finetune/tiny/lock: process \d+"),
    ):
        preflight.look(params, params.tasks)
    assert preflight.look(params, params.tasks) == []


def test_a_project_that_was_moved_keeps_dvc_s_state_in_its_own_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    config = Path(".dvc/config.local")
    config.write_text("[core]\n    site_cache_dir = /somewhere/else/.dvc/site\n")
    assert preflight.mend() == [
        (
            f"{config}: named /somewhere/else/.dvc/site, from where the project was moved; "
            f"names {project.root}/.dvc/site now"
        )
    ]
    assert preflight.mend() == []
