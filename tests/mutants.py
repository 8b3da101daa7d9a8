"""Breaks the code one line at a time and asks whether the tests notice: `make mutants`, outside CI.

Each mutant is a line of the code as it must not be, with the tests that must fail then. The tests
run on a copy of this checkout's tracked files. A mutant that they let pass has survived: then no
test keeps that promise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 900  # for the tests of one mutant
WORKERS = 2


@dataclass(frozen=True)
class Mutant:
    """One line of a file, as it is and as it must not be, and the tests that must fail then.

    broken says what would be broken.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    """ids below tests/, parted by spaces"""
    breaks: str


MUTANTS = (
    # ---- speed that must change nothing ----
    Mutant(
        "depthwise_bfloat16",
        "stages/models/device.py",
        'with torch.autocast("cpu", enabled=False):',
        'with torch.autocast("cpu", enabled=True):',
        "test_methods.py::test_a_strided_depthwise_convolution_hands_its_gradient_down_in_float32_and_a_frozen_one_stays_in_bfloat16",
        "a step of MobileNetV2 takes twice as long in bfloat16",
    ),
    Mutant(
        "views_together",
        "stages/models/scoring.py",
        "torch.cat([view[name] for view in views])",
        "torch.cat([views[0][name] for view in views])",
        "test_image.py::test_a_row_has_the_same_logits_in_views_seen_together_and_one_after_the_other",
        "a row that is scored alone is seen in one view",
    ),
    Mutant(
        "batch_order",
        "stages/modalities/image/encoding.py",
        "self._readers.map(self.__getitem__, places)",
        "self._readers.map(self.__getitem__, sorted(places, reverse=True))",
        "test_image.py::test_a_batch_read_side_by_side_is_the_rows_one_by_one",
        "pictures of a batch get one another's labels",
    ),
    Mutant(
        "old_pack",
        "stages/modalities/image/files.py",
        "pack.stat().st_mtime_ns",
        "pack.stat().st_mode",
        "test_pictures.py::test_a_pack_holds_pictures_as_they_are_and_each_fault_of_it_is_named",
        "copies that were made anew are read as they were",
    ),
    # ---- escapes and paths ----
    Mutant(
        "escape_line",
        "stages/contract/escape.py",
        'c if c.isprintable() else c.encode("unicode_escape").decode() for c',
        "c for c",
        "test_contract.py::test_no_data_starts_a_line_or_moves_the_cursor",
        "data starts a line of a log",
    ),
    Mutant(
        "escape_cell",
        "stages/contract/escape.py",
        '"-", "@", ',
        '"-", ',
        "test_contract.py::test_a_cell_is_shown_and_not_run",
        "a spreadsheet runs a cell of data",
    ),
    Mutant(
        "escape_password",
        "stages/contract/escape.py",
        're.sub(r"//(?:[^/\\s:@]*:\\S*|[^/\\s]*)@", "//", str(text))',
        're.sub(r"//[^/@:\\s]*@", "//", str(text))',
        "test_contract.py::test_a_closed_port_is_unreachable_at_once",
        "a password stands in a message",
    ),
    Mutant(
        "escape_quarantine",
        "stages/checks/quarantine.py",
        "[cell(v) for v in",
        "[v for v in",
        "test_bad_inputs.py::test_bad_rows_below_the_ceiling_cost_themselves_alone",
        "a formula in the data runs when the quarantine is opened",
    ),
    Mutant(
        "escape_confusion",
        "stages/evaluate.py",
        "(cell(actual), cell(predicted)) for",
        "(actual, predicted) for",
        "test_evaluation.py::test_a_label_that_is_a_formula_is_shown_in_confusion_csv",
        "a label that is a formula runs when confusion.csv is opened",
    ),
    Mutant(
        "escape_card",
        "stages/report/card.py",
        "{_safe(stated.intended_use)}",
        "{stated.intended_use}",
        "test_judging.py::test_a_card_escapes_what_comes_from_data",
        "markup in the data is markup of the model card",
    ),
    Mutant(
        "path_link",
        "stages/contract/paths.py",
        "real = path.resolve()",
        "real = path.absolute()",
        "test_tables.py::test_a_table_outside_its_folder_is_refused",
        "a link leads out of the data's folder",
    ),
    Mutant(
        "path_pipe",
        "stages/contract/paths.py",
        " and stat.S_ISREG(path.stat().st_mode)",
        "",
        "test_tables.py::test_a_folder_a_pipe_and_an_unknown_kind_of_file_are_refused",
        "a named pipe is read for ever",
    ),
    Mutant(
        "walk_link",
        "stages/contract/walk.py",
        "if path.is_symlink() and not any(",
        "if False and not any(",
        "test_add.py::test_data_that_cannot_be_learned_from_is_one_line_and_leaves_nothing",
        "DVC follows a link out of the data",
    ),
    Mutant(
        "walk_pipe",
        "stages/contract/walk.py",
        "if not stat.S_ISREG(mode):",
        "if False:",
        "test_preflight.py::test_a_pipe_among_the_data_is_named_before_dvc_would_hang_on_it",
        "DVC hangs on a named pipe",
    ),
    # ---- receipts, locks, the runner, stopping ----
    Mutant(
        "receipt_missing",
        "stages/contract/receipts.py",
        "signed.keys() | found.keys()",
        "signed.keys() & found.keys()",
        "test_contract.py::test_a_changed_a_missing_and_an_extra_file_are_caught",
        "a file that is gone, or one too many, passes for what was signed",
    ),
    Mutant(
        "receipt_unsigned",
        "stages/contract/receipts.py",
        'signed or {name: ""}',
        "signed",
        "test_contract.py::test_what_nobody_signed_is_refused",
        "what nobody signed is read",
    ),
    Mutant(
        "receipt_checkpoint",
        "stages/contract/receipts.py",
        "return signed == found",
        "return signed.keys() == found.keys()",
        "test_resuming.py::test_a_checkpoint_that_is_not_what_was_signed_is_refused_and_removed",
        "a training goes on from a damaged checkpoint",
    ),
    Mutant(
        "take_unverified",
        "stages/contract/runner.py",
        'receipts.verify(folder, receipts.read_json(folder / "receipt.json"), name)',
        'receipts.read_json(folder / "receipt.json")',
        "test_contract.py::test_what_a_stage_takes_is_what_the_one_before_signed",
        "a stage reads bytes that no stage wrote",
    ),
    Mutant(
        "raw_unverified",
        "stages/contract/runner.py",
        'if Path("data/fetch", source).is_dir():',
        "if False:",
        "test_contract.py::test_a_source_that_was_fetched_is_what_fetch_wrote",
        "a source that was changed after it was fetched is learned from",
    ),
    Mutant(
        "half_outputs",
        "stages/contract/runner.py",
        "shutil.rmtree(job.out, ignore_errors=True)",
        "pass",
        "test_contract.py::test_what_the_system_refuses_and_a_user_can_mend_is_one_line_and_a_mistake_of_ours_is_not",
        "a stage that failed leaves half of its outputs",
    ),
    Mutant(
        "refused_kept",
        "stages/contract/runner.py",
        "job.out.rename(refused)",
        "shutil.rmtree(job.out)",
        "test_contract.py::test_a_stage_that_refuses_leaves_no_outputs_and_keeps_what_it_found",
        "what validate found in a set that it refuses is lost",
    ),
    Mutant(
        "resumable_params",
        "stages/contract/runner.py",
        "receipts.digest([self.taken, self.params, ",
        "receipts.digest([self.taken, ",
        "test_resuming.py::test_a_checkpoint_is_of_equal_inputs_params_facts_and_code_alone",
        "a training with other settings goes on from a checkpoint of these",
    ),
    Mutant(
        "lock_shared",
        "stages/contract/locks.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "test_preflight.py::test_the_holder_of_a_lock_is_named_and_remembered",
        "two processes run one stage at once",
    ),
    Mutant(
        "lock_pid",
        "stages/contract/locks.py",
        '["pid"]).items() <= record.items()',
        '["pid"]).keys() <= record.keys()',
        "test_preflight.py::test_the_holder_of_a_lock_is_named_and_remembered",
        "another process of the same number passes for the one that held a lock",
    ),
    Mutant(
        "parent_death",
        "stages/contract/stopping.py",
        "prctl(1, signal.SIGKILL)",
        "prctl(1, 0)",
        "test_contract.py::test_a_stage_dies_with_its_killed_parent",
        "a stage lives on after kill -9 of dvc, and the next run mixes the outputs of both",
    ),
    Mutant(
        "parent_gone",
        "stages/contract/stopping.py",
        "if os.getppid() != PARENT:",
        "if False:",
        "test_resuming.py::test_a_stage_whose_parent_ended_while_it_began_ends_too",
        "a stage whose dvc was killed while the stage began lives on",
    ),
    Mutant(
        "stopped_code",
        "stages/contract/stopping.py",
        "super().__init__(128 + number)",
        "super().__init__(0)",
        "test_contract.py::test_a_stage_that_is_stopped_says_so_in_one_line_and_takes_away_what_it_had_half_made",
        "DVC takes a stage that was stopped for one that is done",
    ),
    Mutant(
        "stopping_late",
        "stages/contract/stopping.py",
        "signal.alarm(seconds)",
        "pass",
        "test_resuming.py::test_a_step_that_does_not_end_is_left_and_the_last_good_checkpoint_stays",
        "a step that hangs is never left",
    ),
    # ---- settings and preflight ----
    Mutant(
        "settings_anchor",
        "stages/contract/settings.py",
        'isinstance(event, AliasEvent) or getattr(event, "anchor", None)',
        "isinstance(event, AliasEvent)",
        "test_contract.py::test_yaml_that_is_not_plain_is_refused_in_one_line",
        "`dvc exp run -S` changes nothing and exits 0",
    ),
    Mutant(
        "settings_first_mistake",
        "stages/contract/settings.py",
        "for e in error.errors()]",
        "for e in error.errors()[:1]]",
        "test_contract.py::test_all_mistakes_are_told_at_once_each_with_its_path",
        "mistakes in params.yaml come one a run",
    ),
    Mutant(
        "settings_no_source",
        "stages/contract/settings.py",
        "raise _all_of(path, missing)",
        "return params",
        "test_contract.py::test_a_source_that_nobody_brings_is_named",
        "a task of a source that is not there starts",
    ),
    Mutant(
        "preflight_rwlock",
        "stages/project/preflight.py",
        "if RWLOCK.exists() and not _is_json(RWLOCK):",
        "if RWLOCK.exists():",
        "test_preflight.py::test_a_list_of_locks_that_dvc_cannot_read_is_removed",
        "the locks of a DVC that runs are taken away",
    ),
    Mutant(
        "preflight_merge",
        "stages/project/preflight.py",
        'if b"<<<<<<<" in LOCK.read_bytes():',
        "if False:",
        "test_preflight.py::test_a_damaged_lock_file_without_a_copy_or_in_the_midst_of_a_merge_is_a_person_s_to_choose",
        "one side of a merge of dvc.lock is thrown away",
    ),
    Mutant(
        "preflight_side_by_side",
        "stages/project/preflight.py",
        "sum(each[: params.flows.side_by_side])",
        "sum(each[:1])",
        "test_preflight.py::test_two_tasks_that_run_at_once_need_room_for_both",
        "two tasks at once fill the disk",
    ),
    Mutant(
        "preflight_held",
        "stages/project/preflight.py",
        "size += path.stat().st_size",
        "size += 0",
        "test_preflight.py::test_what_a_stopped_fine_tuning_left_counts_as_room",
        "a training that was stopped is refused for the room that it takes itself",
    ),
    # ---- validate: readers, layouts, duplicates, expectations ----
    Mutant(
        "tsv_quotes",
        "stages/contract/records.py",
        '"quoting": csv.QUOTE_NONE',
        '"quoting": csv.QUOTE_MINIMAL',
        "test_tables.py::test_a_tsv_has_no_quotes",
        "a quotation mark in a TSV swallows rows",
    ),
    Mutant(
        "csv_fields",
        "stages/contract/records.py",
        "if len(fields) == len(names):",
        "if len(fields) >= len(names):",
        "test_tables.py::test_each_bad_row_of_a_csv_costs_itself_alone",
        "a row with a field too many is read with shifted columns",
    ),
    Mutant(
        "gzip_bomb",
        "stages/contract/lines.py",
        "if self.left < 0:",
        "if False:",
        "test_tables.py::test_a_packed_table_that_is_cut_off_or_unpacks_without_end_is_refused",
        "a few bytes unpack until the disk or the memory is full",
    ),
    Mutant(
        "jsonl_repeated",
        "stages/contract/records.py",
        "object_pairs_hook=_once",
        "object_pairs_hook=dict",
        "test_tables.py::test_each_bad_line_of_a_jsonl_costs_itself_alone",
        "of a name that occurs twice in an object one value is taken without a word",
    ),
    Mutant(
        "folder_junk",
        "stages/layouts/folders.py",
        'step.startswith(".") or step.lower() in JUNK',
        "step.lower() in JUNK",
        "test_tables.py::test_what_systems_leave_is_junk_and_never_opened",
        "what a system leaves in a folder is learned from",
    ),
    Mutant(
        "folder_link",
        "stages/layouts/folders.py",
        "[not paths.regular(path, source) for",
        "[False for",
        "test_tables.py::test_a_folder_a_label_keeps_paths_and_sets_bad_files_aside",
        "a link in a folder of samples leads outside",
    ),
    Mutant(
        "picture_pixels",
        "stages/modalities/image/pictures.py",
        "if width * height > limits.most_pixels:",
        "if False:",
        "test_pictures.py::test_each_refusal_states_the_fact_and_the_limit",
        "a picture takes all memory",
    ),
    Mutant(
        "picture_turned",
        "stages/modalities/image/pictures.py",
        "return np.ascontiguousarray(turn(rgb)) if turn else rgb",
        "return rgb",
        "test_pictures.py::test_a_picture_is_turned_as_its_exif_says",
        "a picture is learned from as nobody sees it",
    ),
    Mutant(
        "conflicting_labels",
        "stages/checks/duplicates.py",
        "        > 1",
        "        > 2",
        "test_bad_inputs.py::test_bad_rows_below_the_ceiling_cost_themselves_alone",
        "equal rows with two labels are learned from",
    ),
    Mutant(
        "near_texts_unconfirmed",
        "stages/modalities/text/near.py",
        "np.concatenate([np.empty(0), *index]) >= LIMIT",
        "np.concatenate([np.empty(0), *index]) >= 0",
        "test_near_texts.py::test_copies_are_found_and_no_pair_is_unconfirmed",
        "texts that differ come into one group",
    ),
    Mutant(
        "near_texts_lost",
        "stages/modalities/text/near.py",
        "mean(axis=1) >= LIMIT - SLACK",
        "mean(axis=1) >= LIMIT + SLACK",
        "test_near_texts.py::test_copies_are_found_and_no_pair_is_unconfirmed",
        "near duplicates stand in train and in test",
    ),
    Mutant(
        "near_pictures_colour",
        "stages/modalities/image/near.py",
        "CHROMA_LIMIT = 3.0",
        "CHROMA_LIMIT = 300.0",
        "test_near_pictures.py::test_colour_alone_tells_pictures_apart",
        "pictures that differ in colour alone come into one group",
    ),
    Mutant(
        "expectation_met",
        "stages/checks/expectations.py",
        'bool(result["success"]) and (observed',
        "True and (observed",
        "test_expectations.py::test_an_even_set_meets_all_and_an_uneven_one_is_told_by_suite",
        "whatever is expected of data is met",
    ),
    Mutant(
        "expectation_severity",
        "stages/checks/expectations.py",
        'and (v["severity"] == "critical") == severe',
        "",
        "test_expectations.py::test_a_failed_warning_is_told_and_stops_nothing",
        "a warning stops the run",
    ),
    Mutant(
        "label_spelling",
        "stages/validate.py",
        " + spelling.clashes(labels)",
        "",
        "test_bad_inputs.py::test_a_bad_set_stops_the_run_with_one_line",
        "two spellings of one label are two labels",
    ),
    # ---- augment and split ----
    Mutant(
        "augment_held_out",
        "stages/augment.py",
        'samples[parting.part == "train"]',
        "samples[parting.part.notna()]",
        "test_pipeline.py::test_a_copy_that_became_equal_to_a_held_out_row_is_dropped_and_counted",
        "held-out rows are altered, and their copies written",
    ),
    Mutant(
        "altered_as_it_was",
        "stages/modalities/text/altering.py",
        '(copy["x"] != chosen["x"]) & looked',
        "looked",
        "test_text.py::test_a_text_that_cannot_be_altered_gets_no_copy",
        "a copy that is its original counts twice in training",
    ),
    Mutant(
        "parts_rank",
        "stages/contract/parts.py",
        '.groupby(samples["group"]).transform("min")',
        '.groupby(samples["group"]).transform("max")',
        "test_parts.py",
        "a group stands in train and in test",
    ),
    Mutant(
        "parts_copies",
        "stages/contract/parts.py",
        " | copy_held_out)",
        ")",
        "test_parts.py::test_held_out_parts_hold_originals_only_and_train_keeps_its_copies",
        "altered copies are tested on",
    ),
    Mutant(
        "parts_seed",
        "stages/contract/parts.py",
        'draws.uniform("part", seed, group)',
        'draws.uniform("part", 0, group)',
        "test_parts.py::test_another_seed_is_another_split",
        "split.seed changes nothing",
    ),
    Mutant(
        "parts_rare",
        "stages/contract/parts.py",
        "_require_every_class(part, strata)",
        "pass",
        "test_parts.py::test_a_class_with_too_few_groups_is_refused_by_its_name",
        "a class without a test row is judged",
    ),
    Mutant(
        "draws_purpose",
        "stages/contract/draws.py",
        'f"{purpose}:{seed}:{name}"',
        'f"{seed}:{name}"',
        "test_parts.py::test_draws_for_two_purposes_two_seeds_or_two_names_are_independent",
        "rows that are altered are those that are held out",
    ),
    Mutant(
        "strayed_copies",
        "stages/split.py",
        "part = parting.part.mask(strayed)",
        "part = parting.part",
        "test_pipeline.py::test_a_copy_that_became_equal_to_a_held_out_row_is_dropped_and_counted",
        "a copy that says what a test row says is learned from",
    ),
    Mutant(
        "label_issues_folds",
        "stages/checks/label_issues.py",
        '(rows["part"] == "train") & (rows["fold"] != fold)',
        '(rows["part"] == "train")',
        "test_label_issues.py",
        "a wrong label vouches for itself",
    ),
    # ---- finetune, and resuming it ----
    Mutant(
        "diverged",
        "stages/methods/training.py",
        "if not all(map(isfinite, logged)):",
        "if False:",
        "test_methods.py::test_a_validation_that_is_no_number_is_never_handed_on",
        "a model of NaN is handed on",
    ),
    Mutant(
        "dropout",
        "stages/methods/training.py",
        "layer.p = finetune.dropout",
        "pass",
        "test_methods.py::test_momentum_and_dropout_reach_every_layer_and_null_keeps_the_model_s_own",
        "finetune.dropout changes nothing",
    ),
    Mutant(
        "class_weights",
        "stages/methods/losses.py",
        "if not balanced:",
        "if True:",
        "test_methods.py::test_balanced_class_weights_are_torch_s_and_count_every_label_alike",
        "balanced class weights change nothing",
    ),
    Mutant(
        "resume_order",
        "stages/methods/resuming.py",
        'torch.random.set_rng_state(before.pop("drawn"))',
        'before.pop("drawn")',
        "test_resuming.py::test_a_training_that_is_killed_and_stopped_ends_as_if_it_had_not_been",
        "a training that was stopped ends with other weights",
    ),
    Mutant(
        "resume_best_lost",
        "stages/methods/resuming.py",
        "if best is None or Path(best) in whole:",
        "if True:",
        "test_resuming.py::test_a_checkpoint_that_is_not_what_was_signed_is_refused_and_removed",
        "a training goes on whose best epoch is lost",
    ),
    Mutant(
        "resume_over",
        "stages/methods/resuming.py",
        'arguments.num_train_epochs = round(reached["epoch"])',
        "pass",
        "test_resuming.py::test_the_patience_of_early_stopping_is_brought_back_and_what_stopped_early_stays_stopped",
        "a training that stopped early makes one more epoch when it goes on",
    ),
    # ---- evaluate and judging ----
    Mutant(
        "temperature",
        "stages/judging/calibration.py",
        "float(np.exp(least.x))",
        "float(least.x)",
        "test_evaluation.py::test_the_temperature_is_by_how_much_a_model_is_too_sure",
        "the temperature makes confidence worse",
    ),
    Mutant(
        "calibration_sign",
        "stages/judging/statistics.py",
        ".sum().abs().sum() / len(confidence)",
        ".sum().sum() / len(confidence)",
        "test_judging.py::test_the_calibration_error_is_that_of_bins_of_equally_many_rows",
        "too sure here and too unsure there adds up to well calibrated",
    ),
    Mutant(
        "chance_unasked",
        "stages/judging/beats.py",
        "> SURE * spread:",
        "> -1e9:",
        "test_judging.py::test_a_model_of_noise_is_not_promoted_for_being_better_than_models_of_noise",
        "a model of noise is promoted, because the cheap models know nothing either",
    ),
    Mutant(
        "few_rows",
        "stages/judging/evidence.py",
        "differing[:, None] / 2, 2 * parts",
        "0 * differing[:, None], 2 * parts",
        "test_judging.py::test_a_handful_of_rows_is_never_enough",
        "three test rows prove a model better",
    ),
    Mutant(
        "slices_bonferroni",
        "stages/judging/slices.py",
        "(1 - confidence) / len(groups)",
        "(1 - confidence)",
        "test_evaluation.py::test_the_weakest_slice_stands_first_with_an_interval_that_allows_for_all",
        "of many slices some are called weak by chance",
    ),
    Mutant(
        "no_verdict",
        "stages/judging/verdict.py",
        'if "reject" in outcomes or not outcomes:',
        'if "reject" in outcomes:',
        "test_judging.py",
        "a model that no gate judged is promoted",
    ),
    Mutant(
        "lower_bound",
        "stages/judging/beats.py",
        "isfinite(compared.lower) and compared.lower > margin",
        "isfinite(compared.lower) and compared.difference > margin",
        "test_judging.py::test_equal_models_are_promoted_at_most_as_often_as_the_level_says",
        "an equal model is promoted every other time",
    ),
    Mutant(
        "budget_nan",
        "stages/judging/gates.py",
        "if not values[name] <= limit]",
        "if values[name] > limit]",
        "test_judging.py::test_a_cost_that_is_no_number_is_over_budget",
        "a cost that is no number is within budget",
    ),
    Mutant(
        "floor_nan",
        "stages/judging/gates.py",
        "return isfinite(value) and within[0] <= value <= within[1]",
        "return within[0] <= value",
        "test_judging.py::test_a_metric_that_is_no_share_is_refused_by_the_floor",
        "a score that is no share reaches the floor",
    ),
    Mutant(
        "ledger_overlap",
        "stages/judging/ledger.py",
        "if not other.rows.isdisjoint(use.rows)",
        "if other.rows == use.rows",
        "test_ledger.py",
        "one row left out makes used test rows fresh",
    ),
    Mutant(
        "ledger_level",
        "stages/judging/ledger.py",
        "(pi * use) ** 2",
        "pi**2 * use",
        "test_ledger.py",
        "the levels of all decisions add up to more than alpha",
    ),
    Mutant(
        "model_bytes",
        "stages/models/scoring.py",
        'return receipts.digest(receipts.files(folder, ["model", "model.json"]))',
        'return receipts.digest(receipts.files(folder, ["model"]))',
        "test_registry.py::test_lineage_reports_one_flipped_byte_and_what_is_gone",
        "a registered model.json that was changed is believed",
    ),
    Mutant(
        "scored_window",
        "stages/models/scoring.py",
        "scores[batch] = ",
        "scores[: len(batch)] = ",
        "test_predict.py::test_rows_are_encoded_a_window_at_a_time_with_the_same_answers",
        "a row gets the prediction of another",
    ),
    # ---- register and the registry ----
    Mutant(
        "other_test_rows",
        "stages/registry/candidate.py",
        'if set(predictions["id"]) != set(test["id"]):',
        "if False:",
        "test_evaluation.py::test_predictions_of_other_rows_are_refused",
        "a model is judged by the predictions of other rows",
    ),
    Mutant(
        "lineage_changes",
        "stages/project/lineage.py",
        'return head if changes == "" else f"{head}+changes"',
        "return head",
        "test_contract.py::test_a_commit_says_whether_code_or_settings_differ_from_it",
        "a model says that it is of a commit whose code did not make it",
    ),
    Mutant(
        "withdrawn",
        "stages/register.py",
        " + _withdrawn(version)",
        "",
        "test_pipeline.py::test_a_withdrawn_version_is_refused_however_good_it_is_until_a_person_promotes_it",
        "a version that was withdrawn returns by itself",
    ),
    Mutant(
        "judged_again",
        "stages/register.py",
        "if champion.sha256 == sha256:",
        "if False:",
        "test_pipeline.py::test_repeating_register_repeats_its_decision_and_makes_no_second_version",
        "a champion that is judged again is judged against itself",
    ),
    Mutant(
        "decide_anew",
        "stages/registry/decisions.py",
        "if now != (verdict.champion, verdict.earlier, version.withdrawn):",
        "if False:",
        "test_registry.py::test_a_verdict_about_another_champion_writes_nothing",
        "of two promotions at once the last one wins",
    ),
    Mutant(
        "decide_withdrawn",
        "stages/registry/decisions.py",
        "registered.require(client, name, number).withdrawn",
        "version.withdrawn",
        "test_registry.py::test_a_version_withdrawn_while_it_was_judged_is_judged_anew",
        "a version that is withdrawn while it is judged becomes champion",
    ),
    Mutant(
        "lost_ids",
        "stages/registry/decisions.py",
        "if copied and receipts.sha256(copied) == digest",
        "if copied",
        "test_registry.py::test_the_same_candidate_on_other_rows_is_another_use_and_lost_ids_are_no_fresh_rows",
        "used test rows pass for fresh ones",
    ),
    Mutant(
        "second_version",
        "stages/registry/recording.py",
        "if existing := registered.holding(client, name, candidate.sha256):",
        "if existing := None:",
        "test_registry.py::test_registering_the_same_bytes_again_makes_no_second_version",
        "registering again makes a second version of the same bytes",
    ),
    Mutant(
        "moved_meanwhile",
        "stages/registry/decisions.py",
        "if held != champion:",
        "if False:",
        "test_registry.py::test_a_move_by_hand_of_another_champion_than_the_one_seen_is_not_made",
        "a rollback undoes a promotion that nobody saw",
    ),
    Mutant(
        "moved_outside",
        "stages/registry/decisions.py",
        "if champion == last:",
        "if True:",
        "test_registry.py::test_a_move_made_in_mlflow_itself_is_found_and_recorded",
        "a champion that was set in MLflow itself has no history",
    ),
    # ---- fetch ----
    Mutant(
        "wheel_pin",
        "stages/sources/package.py",
        'if "DO NOT MATCH THE HASHES" in done.stderr:',
        "if False:",
        "test_package.py::test_a_wheel_that_is_not_the_pinned_one_is_refused_and_nothing_is_written",
        "another wheel than the pinned one passes for an index that does not answer",
    ),
    Mutant(
        "wheel_names",
        "stages/sources/package.py",
        'and ".." not in path.parts',
        "",
        "test_package.py::test_a_pattern_passes_over_links_folders_and_names_that_lead_elsewhere",
        "a member of a wheel is written outside the source",
    ),
    Mutant(
        "hub_bytes",
        "stages/sources/hub.py",
        "if actual != stated:",
        "if False:",
        "test_hub.py::test_a_file_with_one_byte_flipped_is_refused",
        "a file that was altered on its way is taken",
    ),
    Mutant(
        "hub_commit",
        "stages/sources/hub.py",
        "if info.sha != origin.revision:",
        "if False:",
        "test_hub.py::test_another_commit_than_the_pinned_one_is_refused",
        "another commit than the pinned one is taken",
    ),
    Mutant(
        "pickle",
        "stages/formats/mobilenet_v2.py",
        'map_location="cpu", weights_only=True',
        'map_location="cpu", weights_only=False',
        "test_formats.py::test_code_in_a_pickle_is_refused_and_not_run",
        "code in a pickle of weights is run",
    ),
    Mutant(
        "source_files",
        "stages/fetch.py",
        'files = receipts.files(job.out, ["."])',
        "files = dict[str, str]()",
        "test_package.py::test_members_are_written_with_their_origin_sha256_and_licence",
        "source.json names no file, and each file is one too many",
    ),
    # ---- commands ----
    Mutant(
        "add_restores",
        "stages/commands/add.py",
        "elif path.read_bytes() != content:",
        "elif False:",
        "test_add.py::test_an_interrupted_add_leaves_nothing",
        "an add that fails leaves a block of nothing in params.yaml",
    ),
    Mutant(
        "add_secret",
        "stages/commands/transfer.py",
        'if "@" in address.netloc or SECRET.search(address.query):',
        'if "@" in address.netloc:',
        "test_add.py::test_a_name_or_base_that_cannot_be_is_one_line_and_leaves_nothing",
        "data/raw/NAME.dvc keeps a signed address for all to read",
    ),
    Mutant(
        "add_pin",
        "stages/commands/transfer.py",
        're.fullmatch("[0-9a-f]{40}", named[2] or "")',
        "named[2]",
        "test_add.py::test_a_name_or_base_that_cannot_be_is_one_line_and_leaves_nothing",
        "a branch of a hub, which moves, is taken for a pin",
    ),
    Mutant(
        "predict_force",
        "stages/commands/output.py",
        "if out.exists() and not force:",
        "if False:",
        "test_predict.py::test_an_existing_file_is_written_over_by_force_alone_and_whole_or_not_at_all",
        "predict writes over a file unasked",
    ),
    Mutant(
        "predict_whole",
        "stages/commands/output.py",
        'path.with_name(f".{path.name}.{os.getpid()}.part")',
        "path",
        "test_predict.py::test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it",
        "a full disk leaves half a table of predictions",
    ),
    Mutant(
        "rollback_withdrawn",
        "stages/commands/rollback.py",
        "if not version.withdrawn and to in",
        "if to in",
        "test_registry.py::test_rollback_to_a_version_names_what_is_wrong_with_it",
        "rollback brings a withdrawn version back",
    ),
    Mutant(
        "rollback_damaged",
        "stages/commands/rollback.py",
        "versions.require_whole(target)",
        "pass",
        "test_registry.py::test_no_one_goes_back_to_a_damaged_version",
        "a damaged version becomes champion",
    ),
    Mutant(
        "promote_damaged",
        "stages/commands/promote.py",
        "versions.require_whole(version)",
        "pass",
        "test_registry.py::test_no_one_goes_back_to_a_damaged_version",
        "a damaged version becomes champion",
    ),
    Mutant(
        "impact_part",
        "stages/commands/impact.py",
        "elif inside and inside <= held:",
        "elif inside & held:",
        "test_registry.py::test_impact_finds_every_version_by_a_folder_a_file_and_a_copy",
        "a version is blamed for data that it did not learn from",
    ),
    Mutant(
        "impact_hash",
        "stages/project/hashes.py",
        'if not re.fullmatch(r"[0-9a-f]{32}(\\.dir)?", md5):',
        "if False:",
        "test_registry.py::test_impact_finds_every_version_by_a_folder_a_file_and_a_copy",
        "a tag of the registry leads out of DVC's cache",
    ),
    # ---- flows ----
    Mutant(
        "flow_order",
        "stages/project/graph.py",
        "return list(reversed(list(networkx.topological_sort(graph.subgraph(wanted)))))",
        "return list(networkx.topological_sort(graph.subgraph(wanted)))",
        "test_architecture.py::test_the_flow_s_graph_is_dvc_s_graph",
        "the flow starts a stage before those that it waits for",
    ),
    Mutant(
        "flow_unknown_task",
        "flows/runs.py",
        "if unknown := sorted(set(tasks or ()) - set(params.tasks)):",
        "if unknown := list[str]():",
        "test_flow.py::test_an_unknown_task_is_refused_by_name",
        "a task by a wrong name runs nothing and all is well",
    ),
    Mutant(
        "flow_retries",
        "flows/pipeline.py",
        "HELPED_BY_WAITING = (BusyError.exit_code, UnreachableError.exit_code)",
        "HELPED_BY_WAITING = (BusyError.exit_code,)",
        "test_flow.py::test_what_does_not_answer_is_tried_again_and_what_is_wrong_is_not",
        "a source that is away for a moment fails a run",
    ),
    Mutant(
        "flow_old",
        "flows/watch.py",
        "age > timedelta(days=of.max_age_days)",
        "age < timedelta(days=of.max_age_days)",
        "test_flow.py::test_watch_runs_what_is_due_and_says_why",
        "an old champion is never due",
    ),
    # ---- nothing silent ----
    Mutant(
        "shell_key",
        "dvc.yaml",
        "cmd: REFIT_PARENT=$PPID exec python -m stages.fetch",
        "cmd: exec python -m stages.fetch ${key}",
        "test_preflight.py::test_a_name_in_params_yaml_runs_nothing_in_the_shell_of_a_bare_dvc_repro",
        "a name in params.yaml runs in a shell",
    ),
    Mutant(
        "shell_between",
        "dvc.yaml",
        "cmd: REFIT_PARENT=$PPID exec python -m stages.augment",
        "cmd: python -m stages.augment",
        "test_architecture.py::test_a_command_carries_nothing_of_params_yaml_into_the_shell",
        "under dash a stage outlives its killed DVC",
    ),
    Mutant(
        "host_of_a_path",
        "stages/contract/escape.py",
        'if "@" not in rest or ("@" not in authority and',
        'if "@" not in rest or (False and',
        "test_contract.py::test_an_address_is_shown_without_its_secrets",
        "an @ in the path of an address names another host",
    ),
    Mutant(
        "probe_lost",
        "stages/methods/loop/local.py",
        "if begun and kept(",
        "if False and kept(",
        "test_methods.py::test_where_no_epoch_is_better_the_model_stays_as_it_began",
        "a model that training made worse than its head began is kept",
    ),
    Mutant(
        "padding_in_the_mean",
        "stages/models/pooling.py",
        'encoder.pooler.mask = named.get("attention_mask")',
        "encoder.pooler.mask = None",
        "test_methods.py::test_a_bert_that_sees_the_mean_is_saved_as_a_plain_one_that_says_the_same",
        "padding is part of a text's mean",
    ),
    Mutant(
        "c_unchosen",
        "stages/models/linear.py",
        "return max(sorted(cs), key=likelihood)",
        "return min(cs)",
        "test_methods.py::test_of_many_rows_validation_chooses_the_strength",
        "the least C is taken, whatever validation says",
    ),
    Mutant(
        "few_rows_choose",
        "stages/models/linear.py",
        "if len(targets) > FEW or times < 2:",
        "if True:",
        "test_methods.py::test_of_few_rows_all_choose_the_strength",
        "C is chosen by a handful of validation rows",
    ),
    Mutant(
        "training_in_vain_goes_on",
        "stages/methods/loop/local.py",
        "if trainer.state.epoch == 1:",
        "if False:",
        "test_methods.py::test_a_training_that_learned_nothing_in_its_first_epoch_or_has_no_finite_loss_is_stopped",
        "a training at chance runs to its end",
    ),
    Mutant(
        "unreadable_texts_pass",
        "stages/checks/expectations.py",
        '"unknown_tokens": validate.max_unknown_tokens,',
        '"unknown_tokens": None,',
        "test_add.py::test_a_base_that_was_named_stays_and_what_it_cannot_read_is_said_and_stops_validate",
        "a base model that cannot read the texts is trained",
    ),
    Mutant(
        "probe_of_train_alone",
        "stages/finetune.py",
        "if begun and best.epoch == 0:",
        "if False:",
        "test_pipeline.py::test_tune_moves_what_it_says_and_nothing_else",
        "a head that is kept as it began has never seen validation, which the baseline has",
    ),
    Mutant(
        "one_rate",
        "stages/methods/optimisers.py",
        "finetune.head_learning_rate if in_head",
        "finetune.learning_rate if in_head",
        "test_methods.py::test_the_head_has_a_learning_rate_of_its_own_whatever_a_method_wraps_it_in",
        "the head learns as slowly as the body",
    ),
    Mutant(
        "several_labels",
        "stages/models/loading.py",
        "problem_type=of_y.KIND",
        "problem_type=None",
        "test_cases.py::test_a_base_for_several_labels_is_saved_as_one_for_one",
        "transformers reads other numbers of the saved model",
    ),
    Mutant(
        "second_deed",
        "stages/contract/store.py",
        "if (found := find()) is not None:",
        "if (found := None) is not None:",
        "test_registry.py::test_a_lost_answer_is_not_a_second_deed",
        "a lost answer makes a second version",
    ),
    Mutant(
        "secret_printed",
        "stages/contract/location.py",
        'os.environ["MLFLOW_TRACKING_URI"] = bare',
        'os.environ["MLFLOW_TRACKING_URI"] = address',
        "test_contract.py::test_user_and_password_leave_the_address_for_variables_that_no_library_prints",
        "MLflow prints the password of its address",
    ),
    Mutant(
        "moved_project",
        "stages/contract/relocation.py",
        "for before in old:",
        "for before in ():",
        "test_cases.py::test_a_project_that_was_moved_works_by_its_own_files_alone",
        "a moved project reads the artifacts of the place it was moved from",
    ),
    Mutant(
        "raw_bytes",
        "stages/contract/tracked.py",
        "if file.is_file() and md5(file) != of:",
        "if file.is_file() and False:",
        "test_cases.py::test_a_flipped_bit_in_dvc_s_cache_is_found_before_it_is_learned_from",
        "a flipped bit in DVC's cache is learned from",
    ),
    Mutant(
        "channel_order",
        "stages/modalities/image/encoding.py",
        "(pixels if order == [0, 1, 2] else pixels[..., order])",
        "(pixels)",
        "test_architectures.py",
        "a model that reads BGR is given RGB",
    ),
    Mutant(
        "resize_filter",
        "stages/modalities/image/processors.py",
        "return int(stated) if stated is not None else pictures.BILINEAR",
        "return 0",
        "test_architectures.py",
        "pictures are resized in another way than the base model's were",
    ),
    Mutant(
        "pretrained_reset",
        "stages/models/loading.py",
        "if value.shape != another[name].shape",
        "",
        "test_architectures.py test_methods.py",
        "the pretrained weights of a base are drawn anew",
    ),
    Mutant(
        "padding_felt",
        "stages/checks/trial.py",
        "if not torch.allclose(passed.beside, passed.alone, atol=1e-3, rtol=1e-3):",
        "if False:",
        "test_architectures.py",
        "a model that feels its padding is trained",
    ),
    Mutant(
        "whole_line",
        "stages/commands/rows.py",
        "if any(mark in name for mark in DELIMITING):",
        "if False:",
        "test_cases.py::test_a_header_that_looks_like_several_columns_is_not_taken_for_the_text",
        "a whole line is taken for the text",
    ),
    Mutant(
        "nothing_measured",
        "stages/commands/drift.py",
        "if not measures:",
        "if False:",
        "test_cases.py::test_three_rows_are_too_few_to_tell",
        "what measures nothing reads as near",
    ),
    Mutant(
        "bomb",
        "stages/contract/lines.py",
        "if len(line) == MAX_LINE and",
        "if False and",
        "test_cases.py::test_caps_hold_whatever_params_say",
        "one cell takes all memory",
    ),
    Mutant(
        "git_words",
        "stages/project/lineage.py",
        "if any(words in message for words in NONE_YET):",
        "if True:",
        "test_cases.py::test_where_git_refuses_the_commit_is_unknown_and_says_why",
        "git refuses, and the model was made from no commit",
    ),
    Mutant(
        "one_run_of_a_project",
        "stages/project/preflight.py",
        "os.set_inheritable(lock.file.fileno(), True)",
        "os.set_inheritable(lock.file.fileno(), False)",
        "test_preflight.py::test_a_command_has_the_project_for_itself_until_it_ends",
        "two runs of make share a project",
    ),
)


def mutate(mutant: Mutant, root: Path) -> None:
    """Change the line in a copy of the checkout; raises ValueError unless it is there once."""
    path = root / mutant.file
    text = path.read_text("utf-8")
    if (found := text.count(mutant.old)) != 1 or "\n" in mutant.old + mutant.new:
        raise ValueError(
            f"{mutant.file}: `{mutant.old}` stands there {found} times, not once; "
            "mend tests/mutants.py"
        )
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def copy(root: Path) -> None:
    """Copy what git tracks here, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())


def ask(root: Path, tests: Iterable[str]) -> int:
    """Run tests in a copy until one fails, and return pytest's exit code.

    That is 1 if one failed, and 124 if they do not end.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "0",
        "-x",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(root / "made"),
        *(f"tests/{of}" for of in tests),
    ]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    with (root / "said").open("w") as said:
        try:
            return subprocess.run(
                command,
                cwd=root,
                env=environment,
                stdout=said,
                stderr=said,
                timeout=SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return 124


def judge(mutant: Mutant) -> str:
    """Return what became of a mutant: killed, survived, or what kept the tests from answering."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        copy(root)
        try:
            mutate(mutant, root)
        except ValueError as error:
            return f"not applicable: {error}"
        code = ask(root, mutant.tests.split())
        if code in (0, 1):
            return "killed" if code else "survived"
        return f"no answer: pytest ended with {code}: {(root / 'said').read_text()[-600:]}"


def judged(mutant: Mutant, judge: "partial[str]") -> bool:
    """Judge a mutant, say what became of it, and return whether it was killed."""
    began = time.monotonic()
    found = judge(mutant)
    print(
        f"{time.monotonic() - began:5.0f} s  {mutant.name}: {found}"
        + ("" if found == "killed" else f" ({mutant.breaks})"),
        flush=True,
    )
    return found == "killed"


def main() -> None:
    """Judge all mutants, or those that are named; exit with 1 unless all are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; all unless named")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument(
        "--workers", type=int, default=WORKERS, help="mutants that are judged at once"
    )
    asked = parser.parse_args()
    known = {of.name: of for of in MUTANTS}
    assert len(known) == len(MUTANTS), "two mutants have one name"
    if unknown := set(asked.names) - known.keys():
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in asked.names] or list(MUTANTS)
    if asked.list:
        for of in chosen:
            print(f"{of.name}: {of.breaks} ({of.file}; {of.tests})")
        return
    with tempfile.TemporaryDirectory(prefix="mutant-none-") as folder:
        copy(Path(folder))
        if code := ask(Path(folder), sorted({test for of in chosen for test in of.tests.split()})):
            sys.exit(
                f"the tests fail without a mutant (pytest ended with {code}):\n"
                f"{Path(folder, 'said').read_text()[-4000:]}"
            )
    with ThreadPoolExecutor(asked.workers) as pool:
        killed = sum(pool.map(partial(judged, judge=judge), chosen))
    print(f"{killed} of {len(chosen)} mutants killed")
    sys.exit(killed != len(chosen))


if __name__ == "__main__":
    main()
