"""Runs stages one after another, each in a process forked from this one, which has imported the libraries and nothing of Refit.

To import them anew costs a stage 2 to 10 seconds, often more than its work. conftest.Project.stage starts it and sends a JSON array
a line: the folder, the stage, its key, the environment, and the files for stdout and stderr; the answer is the exit code in a line of its own.
"""

import gc
import importlib
import json
import os
import runpy
import sys
import threading

LIBRARIES = ("albumentations", "cv2", "great_expectations", "matplotlib.pyplot", "mlflow", "nlpaug.augmenter.char", "pandas", "pyarrow.parquet",
             "scipy.stats", "sklearn.linear_model", "torch", "transformers.trainer")  # fmt: skip


def serve() -> None:
    """Run what each line orders and answer with its exit code, until stdin ends."""
    with os.fdopen(os.dup(0)) as orders, os.fdopen(os.dup(1), "w") as answers:
        for order in orders:
            root, stage, key, environment, *files = json.loads(order)
            if child := os.fork():
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
                continue
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(root)
            for number, file in enumerate([os.devnull, *files]):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), number)
            sys.path[0], sys.argv = root, [f"stages.{stage}", key]  # as `python -m` has it
            runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
            sys.exit()


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    assert not any(name.partition(".")[0] == "stages" for name in sys.modules)
    gc.freeze()  # or each collection in a child would copy what it shares with this process
    serve()
