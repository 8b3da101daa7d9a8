"""Writes the trained model in the form in which it is judged, registered and served."""

from dataclasses import replace

from stages.contract import plugins, receipts, runner
from stages.contract.runner import Job
from stages.models import saved
from stages.params.export import Plain


def export(job: Job, export: Plain) -> str:
    """Write the model in this form, and its model.json; nothing is trained."""
    folder = job.take("finetune", "model")
    trained = saved.read(job.take("finetune", "model.json"))
    form = plugins.export(export.name)
    form.write(folder, job.hand_on("model"), export)

    written = receipts.files(job.out, ["model"])
    exported = replace(trained, form=export.name, sha256=receipts.digest(written))
    exported.write(job.hand_on("model.json"))
    size = sum((job.out / name).stat().st_size for name in written)
    return f"{export.name}, {size / 1e6:,.1f} MB"


if __name__ == "__main__":
    runner.run(export)
