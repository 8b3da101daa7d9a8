"""Log a search in MLflow: a run for all of it, and below it a run for each trial."""

from typing import Any

from stages.contract import location, store
from stages.registry.recording import flatten

PARENT, KEY = "mlflow.parentRunId", "refit.search"


class Log:
    """The run of a search; the same search, once it goes on, adds to the same run."""

    def __init__(self, name: str, metric: str, key: str) -> None:
        store.ping()
        self.metric = metric
        with store.opened() as client:
            self.experiment = store.once(
                lambda: store.require_experiment(client, name),
                lambda: client.create_experiment(name, location.artifact_location(name)),
            )
            found = client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
            made = found[0] if found else client.create_run(
                self.experiment, tags={KEY: key}, run_name=f"search of {name}"
            )  # fmt: skip
            self.run_id = made.info.run_id

    def trial(self, trial: dict[str, Any]) -> None:
        """Log a trial (the JSON of commands/search.Trial) as a run below the search's."""
        outcome = trial["outcome"]
        with store.opened() as client:
            run = client.create_run(
                self.experiment,
                tags={PARENT: self.run_id, "refit.ended": trial["why"] or "all rows"},
                run_name=f"{trial['number']} {trial['way']}",
            ).info.run_id
            for name, value in flatten({"finetune": trial["finetune"]}).items():
                client.log_param(run, name, value)
            if outcome:
                score = {f"validation_{self.metric}": outcome["score"]["value"]}
                rest = {name: float(outcome[name]) for name in ("rows", "seconds", "cpu", "learns")}
                for name, value in (score | rest).items():
                    client.log_metric(run, name, value)
            client.set_terminated(run, "FINISHED" if outcome else "FAILED")

    def end(self, chosen: dict[str, Any], page: str) -> None:
        """Log what was chosen, and the page."""
        with store.opened() as client:
            client.set_tag(self.run_id, "refit.chosen", chosen["way"])
            score = chosen["outcome"]["score"]["value"]
            client.log_metric(self.run_id, f"validation_{self.metric}", score)
            client.log_artifact(self.run_id, page)
            client.set_terminated(self.run_id)
