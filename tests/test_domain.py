"""How far data lies from a reference: limits with their rate, shifts, pretraining labels, drift."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.contract import plugins
from stages.contract.errors import ProfileError
from stages.domain import distances, profiles
from stages.domain.profiles import Profile
from stages.models import activations
from stages.params.compute import Compute
from stages.params.image import ImageModality
from tests.conftest import Project, rows, write_csv
from tests.test_bad_inputs import line_of
from tests.test_image import draw_picture, tiny_resnet  # noqa: F401  (a fixture)

RATE = 0.03
CHINESE = [
    "今天天气很好我们去公园散步吧",
    "这家饭店的服务态度非常差",
    "请问什么时候可以发货呢",
    "房间干净早餐也不错",
]


def made(
    number: int, seed: int, mean: float = 0.0, script: str = "LATIN", group: int = 0
) -> Profile:
    """Return a profile of rows drawn from a Gaussian: two traits, 32 directions of an embedding."""
    drawn = np.random.default_rng(seed)
    embeddings = drawn.standard_normal((number, profiles.DIMENSIONS))
    embeddings[:, 0] += mean
    traits: dict[str, Any] = {
        "characters": (drawn.poisson(50, number) + 20 * mean).tolist(),
        "script": [script] * number,
    }
    return Profile(
        {}, "base", {}, None, [group] * number, traits, profiles.encoded(embeddings), None
    )


def far(reference: Profile, new: Profile, rate: float = RATE) -> set[str]:
    return {of.measure for of in distances.of_rows(reference, new, rate, 0) if of.far}


def test_rows_of_the_same_domain_are_far_as_often_as_said() -> None:
    """Few draws can show this rate; `python -m benchmarks.domain` measures the usual one."""
    drawn = [bool(far(made(100, 2 * i), made(100, 2 * i + 1), rate=0.9)) for i in range(10)]
    assert 1 <= sum(drawn) <= 6  # of 10 at 30 %: a chance of 3 % for fewer and of 1 % for more


def test_a_shift_is_found_where_it_is() -> None:
    assert far(made(1000, 1), made(1000, 2, mean=0.5)) == {"characters", "frechet", "two_samples"}
    assert far(made(200, 1), made(200, 2, script="CJK")) == {"script"}


@pytest.mark.parametrize(("here", "is_far"), [(32.0, True), (300.0, True), (256.0, False)])
def test_a_trait_that_hardly_varies_in_the_reference_is_compared_too(
    here: float, is_far: bool
) -> None:
    reference, new = made(300, 1), made(300, 2)
    sides = (
        {"shorter_side": [*range(137, 146), *[256.0] * 291]},
        {"shorter_side": [*range(137, 146), *[here] * 291]},
    )
    assert (
        "shorter_side"
        in far(
            *(
                dataclasses.replace(of, traits=side, embeddings=None)
                for of, side in zip((reference, new), sides, strict=True)
            )
        )
    ) == is_far


def test_rows_like_one_of_the_groups_of_a_reference_are_near_and_others_far() -> None:
    parts = [made(100, 1), made(100, 2, mean=3.0, group=1)]
    both = Profile(
        {}, "base", {}, None, [*parts[0].group, *parts[1].group],
        {name: [*parts[0].traits[name], *parts[1].traits[name]] for name in parts[0].traits},  # pyright: ignore[reportArgumentType]
        profiles.encoded(np.concatenate([profiles.embeddings(of) for of in parts])), None,
    )  # fmt: skip
    assert far(both, made(100, 3)) == set()
    assert "frechet" in far(both, made(100, 4, mean=8.0))


def test_what_was_taken_with_another_base_is_not_compared() -> None:
    other = Profile(
        **{
            **vars(made(100, 2, mean=5.0)),
            "base": "another",
            "traits": {"characters": [50.0] * 100, "tokens": [9.0] * 100},
        }
    )
    assert {of.measure for of in distances.of_rows(made(100, 1), other, RATE, 0)} == {"characters"}


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_labels_of_the_same_frequencies_are_far_no_oftener_than_said_and_a_doubled_one_is_found(
    size: int,
) -> None:
    shares, drawn = {"a": 3.0, "b": 2.0, "c": 1.0}, np.random.default_rng(size)

    def told(weights: list[float]) -> float:
        counts = drawn.multinomial(size, np.array(weights) / sum(weights), 200)
        return float(
            np.mean(
                [
                    distances.of_labels(
                        dict(zip(shares, of.tolist(), strict=True)), shares, None, RATE, i
                    ).far
                    for i, of in enumerate(counts)
                ]
            )
        )

    assert told([3, 2, 1]) <= 0.04
    assert told([3, 2, 2]) >= (0.95 if size >= 1000 else 0.3)


def test_labels_are_compared_with_counted_ones_as_with_counts() -> None:
    drawn = np.random.default_rng(0)
    found = [
        distances.of_labels(
            {"a": int(n), "b": 50 - int(n)}, {"a": float(m), "b": 50.0 - m}, 50, RATE, i
        ).far
        for i, (n, m) in enumerate(drawn.binomial(50, 0.5, (300, 2)))
    ]
    assert np.mean(found) <= 0.04


def see(folder: Path, pictures: list[str], count: int) -> activations.Seen:
    settings = ImageModality("image", (16, 200), 40_000, (16, 200), 32, 32, ("as_is",))
    compute = Compute(threads=1, dtype="float32", memory_format="contiguous_format", batch_size=7)
    return activations.see(
        folder,
        pd.DataFrame({"x": pictures[:count]}),
        plugins.modality("image"),
        plugins.problem("classification"),
        settings,
        compute,
    )


@pytest.fixture(scope="module")
def drawn_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from stages.modalities.image import pictures

    folder = tmp_path_factory.mktemp("pictures")
    for i in range(60):
        pictures.write(draw_picture(("red", "blue")[i % 2], i), folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(60)]


def test_activations_are_nearest_to_the_statistics_that_were_kept_of_them(
    tiny_resnet: Path,  # noqa: F811
    drawn_pictures: list[str],
) -> None:
    seen = see(tiny_resnet, drawn_pictures, 60)
    assert (
        seen.means.shape == seen.squares.shape == (60, sum(seen.layers))
        and len(seen.embeddings) == 60
    )
    own = np.stack([seen.means.mean(0), seen.squares.mean(0) - seen.means.mean(0) ** 2 + 1e-5])
    kept = dataclasses.replace(seen, kept=own)
    every = np.full((1, 60), 1 / 60, np.float32)
    assert np.allclose(activations.divergence(kept, every), 0, atol=1e-4)
    # The model's own statistics are those of no data: mean 0, variance 1.
    assert activations.divergence(seen, every).min() > 0.01
    reds = np.where(np.arange(60) % 2 == 0, 1 / 30, 0).astype(np.float32)[None]
    of_draws = activations.resampled(kept, (30,), np.random.default_rng(0))
    assert activations.divergence(kept, reds).mean() > of_draws["30"][-1]


def test_each_layer_of_batchnorm_is_compared_with_its_own_statistics(
    tiny_resnet: Path,  # noqa: F811
    drawn_pictures: list[str],
) -> None:
    """A shortcut runs after the layers that it bypasses, but comes before them in the model."""
    from transformers import AutoModelForImageClassification

    seen = see(tiny_resnet, drawn_pictures, 8)
    model = AutoModelForImageClassification.from_pretrained(tiny_resnet)
    assert seen.layers == [
        of.num_features for of in model.modules() if type(of).__name__ == "BatchNorm2d"
    ]


def test_a_profile_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    profiles.write(made(30, 1), path)
    assert profiles.read(path) == made(30, 1)
    whole = json.loads(path.read_text())
    for wrong in (
        {"group": [0] * 29},
        {"embeddings": "AAAA"},
        {"traits": {"characters": ["a", 1]}},
        {"more": 1},
        {"activations": {"x": [1.0]}},
    ):
        path.write_text(json.dumps(whole | wrong))
        with pytest.raises(ProfileError, match=r"p\.json: is no profile"):
            profiles.read(path)
    with pytest.raises(ProfileError, match="there is no such profile"):
        profiles.read(tmp_path / "another.json")


# ---- validate ------------------------------------------------------------------------------------


def with_settings(project: Project, **changed: Any) -> Callable[..., Any]:
    def change(params: Any) -> None:
        validate = params["tasks"]["tiny"]["validate"]
        validate["domain"] |= changed.pop("domain", {})
        validate |= changed

    project.params(change)
    return project.stage


def told(project: Project) -> dict[str, Any]:
    return json.loads((project.root / "data/validate/tiny/domain.json").read_text())


def test_labels_are_compared_with_the_classes_of_pretraining_that_they_cover(
    project: Project,
) -> None:
    """Cat, dog and bird cover 5, 118 and 59 of ImageNet's classes."""
    classes = {
        "ask": [[281, 285]],
        "blame": [[151, 268]],
        "praise": [[7, 24], [80, 100], [127, 146]],
    }
    held = Profile(
        {"of": "ImageNet's classes"},
        None,
        None,
        {str(i): 1.0 for i in range(1000)},
        [],
        {},
        None,
        None,
    )
    profiles.write(held, project.root / "data/profiles/imagenet.json")
    of_pretraining = {"name": "pretrained", "classes": classes, "max_kl": 2.0}
    stage = with_settings(
        project, domain={"profile": "imagenet"}, label_distribution=of_pretraining
    )
    line = stage("validate").stdout
    found = told(project)
    [labels] = [of for of in found["measures"] if of["measure"] == "labels"]
    p, q = np.full(3, 1 / 3), np.array([5, 118, 59]) / 182
    assert found["labels_compared_with"] == "pretrained" and labels["far"]
    assert labels["distance"] == pytest.approx(float((p * np.log(p / q)).sum()), rel=0.05)
    assert "far from what the base model was pretrained on: labels" in line

    with_settings(project, label_distribution=of_pretraining | {"classes": classes | {"ask": []}})(
        "validate"
    )
    assert told(project)["labels_new_to_the_base"] == ["ask"]
    for wrong, said in (
        ({"ask": [[1, 2]]}, "has no blame, praise"),
        (classes | {"ask": [[999, 1000]]}, "knows of no class 1000"),
        ({name: [] for name in classes}, "not one label"),
    ):
        line = line_of(
            with_settings(project, label_distribution=of_pretraining | {"classes": wrong})(
                "validate", ok=False
            )
        )
        assert said in line
    assert "knows of no classes" in line_of(
        with_settings(project, domain={"profile": "unknown"})("validate", ok=False)
    )


def test_another_language_is_called_out_and_stops_the_run_where_that_is_critical(
    project: Project,
) -> None:
    # That would stop the run anyhow.
    project.params(lambda p: p["tasks"]["tiny"]["validate"].update(max_unknown_tokens=None))
    stage = with_settings(project, domain={"profile": "minilm"})
    stage("validate")
    assert not any(of["far"] for of in told(project)["measures"] if of["measure"] == "script")
    drawn = np.random.default_rng(0).integers(0x4E00, 0x9000, (120, 12))
    table = [
        {"text": "".join(map(chr, of)), "label": row["label"]}
        for of, row in zip(drawn, rows(120), strict=True)
    ]
    write_csv(project.root / "data/raw/reviews/train.csv", table)
    assert "script 0.69" in stage("validate").stdout
    assert "CJK 100.0% here, LATIN 1" in line_of(
        with_settings(project, domain={"severity": "critical"})("validate", ok=False)
    )


# ---- drift ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_new_rows_and_todays_data_are_compared_with_what_the_champion_learned_from(
    done: Project, tmp_path: Path
) -> None:
    refit = str(Path(sys.executable).with_name("refit"))
    assert (
        "0 of 7 measures beyond what tiny@1's own data shows"
        in done.run(refit, "drift", "tiny").stdout
    )
    write_csv(
        tmp_path / "new.csv", [{"text": f"{CHINESE[i % 4]}{chr(0x4E00 + i)}"} for i in range(60)]
    )
    found = json.loads(done.run(refit, "drift", "tiny", str(tmp_path / "new.csv"), "--json").stdout)
    assert found["rows"] == 60 and "script" in found["far"]
    write_csv(tmp_path / "same.csv", [{"text": row["text"]} for row in rows(60, seed=9)])
    assert (
        json.loads(done.run(refit, "drift", "tiny", str(tmp_path / "same.csv"), "--json").stdout)[
            "far"
        ]
        == []
    )
    (line,) = done.run(refit, "drift", "nothing", ok=False).stderr.splitlines()
    assert "there is no task 'nothing'" in line


def test_a_profile_of_reference_data_is_made_and_compared_with(
    done: Project, tmp_path: Path
) -> None:
    refit = str(Path(sys.executable).with_name("refit"))
    for name, seed in (("one", 11), ("two", 12)):
        (tmp_path / f"{name}.txt").write_text(
            "".join(f"{row['text']}\n" for row in rows(80, seed=seed))
        )
    made = done.run(
        refit,
        "profile",
        "reference",
        str(tmp_path / "one.txt"),
        str(tmp_path / "two.txt"),
        "--task",
        "tiny",
        "--classes",
        "5",
    )
    assert "160 rows" in made.stdout
    held = profiles.read(done.root / "data/profiles/reference.json")
    assert (
        held.group == [0] * 80 + [1] * 80
        and held.labels == dict.fromkeys("01234", 1.0)
        and held.made["base"] == "tiny_bert"
    )
    assert "is there already" in line_of(
        done.run(
            refit, "profile", "reference", str(tmp_path / "one.txt"), "--task", "tiny", ok=False
        )
    )
    (done.root / "data/profiles/reference.json").unlink()
