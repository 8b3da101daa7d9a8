"""Run modules one after another, each in a process forked from this one.

This process has imported the libraries and nothing of Refit: to import them anew costs a stage 2 to
10 seconds and DVC one, often more than their work. conftest.Project.run starts it and sends a JSON
array on each line: the folder, the module, its arguments, the environment, and the files for stdout
and stderr; the answer is the exit code in a line of its own.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import threading
import traceback
from typing import NoReturn

LIBRARIES = ("albumentations", "cv2", "dvc.cli", "dvc.commands.add", "dvc.commands.repro",
             "dvc.commands.status", "dvc.output", "dvc.repo", "dvc.repo.index",
             "dvc.repo.reproduce", "dvc.stage.cache", "great_expectations", "matplotlib.pyplot",
             "mlflow", "nlpaug.augmenter.char", "pandas", "pyarrow.parquet",
             "scipy.stats", "sklearn.linear_model", "torch", "transformers.trainer")  # fmt: skip
# Variables that huggingface_hub reads once: if one is set, the child imports it anew.
READ_AT_IMPORT = ("HF_", "TRANSFORMERS_")


def serve() -> None:
    """Run what each line orders and answer with its exit code, until stdin ends."""
    with os.fdopen(os.dup(0)) as orders, os.fdopen(os.dup(1), "w") as answers:
        for order in orders:
            root, module, arguments, environment, *files = json.loads(order)
            if child := os.fork():
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
                continue
            if any(
                environment.get(name) != os.environ.get(name)
                for name in {*environment, *os.environ}
                if name.startswith(READ_AT_IMPORT)
            ):
                for name in [
                    name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"
                ]:
                    del sys.modules[name]
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(root)
            for number, file in enumerate([os.devnull, *files]):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), number)
            sys.path[0], sys.argv = root, [module, *arguments]  # as `python -m` has it
            sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
            leave(run(module))


def run(module: str) -> int:
    """Run a module as `python -m` does, and return its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(code: int) -> NoReturn:
    """End as an interpreter does, but let the system take the memory back.

    To free each object would first copy what is shared, for half a second.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    assert not any(name.partition(".")[0] == "stages" for name in sys.modules)
    gc.freeze()  # or each collection in a child would copy what it shares with this process
    serve()
