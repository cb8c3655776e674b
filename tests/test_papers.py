"""What the papers' published code does, pinned: masks' statistics, prompts kept apart, settings in effect."""

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml

from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.counters.jpeg_diff import LUMA, table
from editproof.editors import attention
from editproof.editors.blocks import Tokens
from editproof.errors import UserError
from editproof.methods import METHODS, contours
from editproof.methods.contours import Contour, filled, outline
from editproof.methods.dct_shield import Luminance, _coefficients
from editproof.methods.mist import texture
from editproof.methods.prompts import GROUPS, HELD_OUT, POOL
from editproof.methods.sizes import _sizes
from editproof.photo.reading import save_png
from editproof.protection.apply import method_settings
from editproof.resolution import resize

ROWS, COLUMNS = np.mgrid[:512, :512]
SHAPES = {
    "disc": (ROWS - 256) ** 2 + (COLUMNS - 256) ** 2 < 130**2,
    "ellipse": ((ROWS - 240) / 190) ** 2 + ((COLUMNS - 256) / 130) ** 2 < 1,
    "rectangle": (abs(ROWS - 256) < 160) & (abs(COLUMNS - 256) < 110),
    "person": (((ROWS - 200) / 90) ** 2 + ((COLUMNS - 256) / 70) ** 2 < 1)
    | (((ROWS - 512) / 230) ** 2 + ((COLUMNS - 256) / 180) ** 2 < 1),
}
# The kept share of 60 masks, seed 0: mean and standard deviation. One reach a mask makes it scatter as the authors'.
STATISTICS = {"disc": (0.66, 0.26), "ellipse": (0.68, 0.29), "rectangle": (0.49, 0.29), "person": (0.57, 0.32)}


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_of_diffusionguard_s_masks(shape: str) -> None:
    kept = torch.from_numpy(SHAPES[shape])
    contour, draws = Contour(kept), torch.Generator().manual_seed(0)
    masks = [contour.shrink(draws) for _ in range(60)]
    shares = np.array([mask.sum().item() / kept.sum().item() for mask in masks])
    assert all((mask <= kept).all() and mask.any() for mask in masks)
    mean, deviation = STATISTICS[shape]
    assert shares.mean() == pytest.approx(mean, abs=0.05)
    assert shares.std() == pytest.approx(deviation, abs=0.04)
    assert shares.min() < 0.2


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_are_corners_of_the_region_and_enclose_it(shape: str) -> None:
    region = SHAPES[shape]
    corners = outline(region)
    assert region[tuple(corners.T)].all()
    again = filled(corners, region.shape)
    assert np.array_equal(again, region)
    assert len(outline(SHAPES["rectangle"])) == 4
    assert sorted(outline(np.eye(9, dtype=bool)).tolist()) == [[0, 0], [8, 8]]
    dot = np.zeros((9, 9), bool)
    dot[4, 5] = True
    assert filled(outline(dot), dot.shape).tolist() == dot.tolist()


def test_the_region_of_a_round_is_the_next_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reach is drawn once a mask, and points are tested against the region that has shrunk."""
    seen: list[tuple[int, int]] = []
    plain = Contour._moved

    def moved(self: Contour, region: np.ndarray, corners: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        seen.append((int(region.sum()), int(np.abs(offsets).max())))
        return plain(self, region, corners, offsets)

    monkeypatch.setattr(Contour, "_moved", moved)
    contour, draws = Contour(torch.from_numpy(SHAPES["ellipse"])), torch.Generator().manual_seed(3)
    while len(seen) < 6:
        seen.clear()
        contour.shrink(draws)
    areas, reaches = zip(*seen, strict=True)
    assert all(after <= 1.01 * before for before, after in pairwise(areas))
    assert areas[-1] < areas[0]
    assert 0 < max(reaches) <= contours.STRENGTH * contour.radius
    assert min(reaches) >= 0.8 * max(reaches)  # of many draws the largest is nearly the reach


def test_prompts_to_measure_with_are_kept_from_the_attacks() -> None:
    held_out = [prompt for group in HELD_OUT.values() for prompt in group]
    assert list(HELD_OUT) == list(GROUPS)
    assert (len(POOL), len(set(POOL)), len(set(held_out))) == (60, 60, 12)
    assert not {prompt.lower() for prompt in held_out} & {prompt.lower() for prompt in POOL}
    for path in (Path(__file__).parents[1] / "configs/paper").glob("decontext-*.yml"):
        config = yaml.safe_load(path.read_text())
        assert not {prompt.lower() for prompt in config["prompts"]} & {prompt.lower() for prompt in POOL}, path
        assert len(config["seeds"]) == 30


# Scripts, options, configuration keys, files and metrics of the three repositories, as they are called there.
THEIRS = """
app.py scripts/demo.py scripts/compare_baselines.py scripts/train.py scripts/download_dataset.py scripts/evaluate.py
notebooks/diffvax_demo.ipynb diffvax_comparison.ipynb checkpoints/diffvax_trained.pth configs/train.yml
--image --mask --image-index --edit-prompt --checkpoint --data-dir --save-dir --seed --no-display --attack-model
--run-baselines --pg-steps --dg-steps --images --output --pg-enc-steps --pg-diff-steps --pg-diff-grad-reps --config
--output-dir --repo-id iter_num learning_rate batch_size alpha immunization_model train_all project_name
attack_model_link
images_subdir masks_subdir image_prompt_json image_index_list _original.png _immunized _edited_original
_edited_immunized
_comparison _immunized_photoguard.png _edited_photoguard _immunized_diffusionguard _edited_diffusionguard
_baseline_comparison.png psnr ssim fsim clip DDIM PNDM euler LMS KDPM
scripts/attack_kontext.sh attack/attack_Flux_Kontext/attack_decontext.py attack_diffPPGD.py scripts/attack_step1x.sh
attack/attack_Step1X_Edit/attack.py inference/kontext_inference.py inference/step1x_inference.py
--pretrained_model_name_or_path --condition_images_dir --output_dir --resolution --alpha --eps --attack_steps
--mixed_precision --max_sequence_length --target_base_dir --condition_image_name --model_path --version --context_image
--prompt --guidance_scale --num_inference_steps --width --height --device adversarial_<name>_step_800.png
perturbation_<name>_step_800.png ISM FDFR BRISQUE CLIP-I SER-FIQ FID RetinaFace ArcFace
run_protection.py dataset_dir surrogate_prompt inference_steps num_timesteps_per_step guidance_scale double_stream
single_stream layer_indices entropy_slices epsilon step_size steps momentum_decay constraint.type image_size
run_name_template wandb veto.evaluation.runner demo/app.py LPIPS
"""


def test_everything_of_the_papers_repositories_is_told() -> None:
    """In the left column of a table of docs/papers.md."""
    text = (Path(__file__).parents[1] / "docs" / "papers.md").read_text()
    left = "\n".join(line.split(" | ")[0] for line in text.splitlines() if line.startswith("| "))
    assert [name for name in THEIRS.split() if name not in left] == []


@pytest.mark.parametrize(("options", "step"), [
    (["--preset", "fast", "--steps", "2"], 8 / 255), (["--preset", "fast", "--steps", "2", "--eps", "4/255"], 4 / 255),
    (["--steps", "2"], 2.5 * 8 / 255 / 2), (["--preset", "fast", "--steps", "2", "--set", "step_size=.01"], 0.01),
])  # fmt: skip
def test_the_step_in_the_report_is_the_step_that_is_taken(
    options: list[str], step: float, tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from editproof.methods import method

    told, pgd = [], method.pgd
    monkeypatch.setattr(method, "pgd", lambda *given, **more: (told.append(more["step_size"]), pgd(*given, **more))[1])
    save_png(tmp_path / "p.png", tiny.pictures(1)[0])
    arguments = ["protect", str(tmp_path / "p.png"), "--out", str(tmp_path / "out"), "--method", "decontext",
                 "--editor", str(tiny_folder("flux-kontext")), "--size", "32", *options]  # fmt: skip
    assert main(arguments) == 0
    settings = json.loads((tmp_path / "out/p-protected.json").read_text())["settings"]
    assert told == [pytest.approx(step)]
    assert settings["step_size"] == pytest.approx(step)


def test_decontext_tells_flux_the_authors_guidance(tiny_editor: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict] = []
    monkeypatch.setattr(
        sys.modules["editproof.methods.decontext"],
        "context_mass",
        lambda *given, **more: (told.append(more), given[1].mean((1, 2, 3)))[1],
    )
    editor, images = tiny_editor("flux-kontext"), tiny.pictures(1)
    METHODS["decontext"](editor, images, steps=3, pure_noise_every=2)
    assert [more["guidance"] for more in told] == [3.5] * 3
    levels = [float(more["timestep"]) for more in told]
    assert levels[0] == levels[2] == 1
    assert 0.98 <= levels[1] < 1


def test_veto_gives_the_photo_the_positions_of_the_edit(tiny_editor: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the authors; what the editor itself does is another entropy."""
    ids: list[tuple[torch.Tensor, torch.Tensor]] = []
    plain = attention._mean_over_blocks

    def mean(transformer: object, tokens: Tokens, *more: object) -> torch.Tensor:
        ids.append((tokens.target_ids, tokens.context_ids))
        return plain(transformer, tokens, *more)

    monkeypatch.setattr(attention, "_mean_over_blocks", mean)
    editor, images = tiny_editor("flux-kontext"), tiny.pictures(1)
    for same in (True, False):
        METHODS["veto"](editor, images, budget=Linf(8 / 255), steps=1, timesteps=1, same_positions=same)
    assert torch.equal(*ids[0])
    assert not torch.equal(*ids[1])


def test_the_papers_budgets_in_our_units() -> None:
    """DiffusionGuard's 16/255 acts in [-1,1] in the authors' code."""
    budgets = {name: row.values(512, 512) for name, row in METHODS.items() if row.paper}
    assert budgets["diffusionguard"] == (Linf(8 / 255), 800, 0.5 / 255)
    assert budgets["decontext"] == (Linf(12.75 / 255), 800, 0.6375 / 255)
    assert budgets["veto"] == (Linf(4 / 255), 100, 2 / 255)
    assert budgets["photoguard-diffusion"][0].eps == 8


def test_diffvax_trains_without_the_scheduler_s_noise(tiny_editor: Callable) -> None:
    editor, images, mask = tiny_editor("sd-inpaint"), tiny.pictures(1), tiny.hole(1)

    def edit(eta: float | None) -> torch.Tensor:
        draws = [torch.Generator().manual_seed(0)]
        return editor.sample(images, "a hat", mask=mask, steps=3, eta=eta, generator=draws)

    with torch.no_grad():
        assert torch.equal(edit(None), edit(1.0))
        assert not torch.allclose(edit(0.0), edit(1.0))
    from editproof.immunizer.config import TrainConfig

    assert TrainConfig().eta == 0


def test_mist_s_texture_is_black_and_white_and_has_one_scale() -> None:
    small, large = texture(64, 64), texture(128, 128)
    assert small.unique().tolist() == [0, 1]
    assert 0.4 < small.mean() < 0.6
    assert (resize(large, (64, 64)) - small).abs().mean() < 0.25


def test_dct_shield_changes_luminance_by_steps_of_the_table() -> None:
    budget = Luminance(Linf(16 / 255), 75, 2.0)
    change = budget.project(torch.randn(1, 3, 24, 20, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(change[:, :1].expand(-1, 3, -1, -1), change)  # grey: colour differences stay
    assert change.abs().max() <= 16 / 255
    free = Luminance(Linf(1.0), 75, 2.0).project(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert (_coefficients(free) * 255 / table(LUMA, 75)).abs().max() <= 2.0 + 1e-3


def test_a_universal_perturbation_is_the_same_for_every_photo(tiny_editor: Callable) -> None:
    editor, budget = tiny_editor("flux-kontext"), Linf(8 / 255)
    vars(editor).pop("universal_perturbations", None)
    photos = tiny.pictures(2) * 0.8 + 0.1
    photos = (photos * 255).round() / 255
    steps: list[int] = []
    for callback in (lambda step, *more: steps.append(step), lambda step, *more: steps.append(-1)):
        changes = METHODS["universal"](editor, photos, budget=budget, steps=2, callback=callback) - photos
        assert torch.allclose(changes[0], changes[1], atol=1e-6)
        assert 0 < changes.abs().max() <= 8 / 255 + 1e-6
    assert steps == [1, 2]  # found once
    with pytest.raises(UserError, match="no photo in"):
        METHODS["universal"](editor, photos, budget=budget, steps=1, photos="nowhere")


def test_advpaint_shows_first_the_box_around_what_is_kept_and_then_the_rest(
    tiny_editor: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, seen = tiny_editor("sd-inpaint"), []
    plain = editor.first_prediction

    def first(images: torch.Tensor, prompt: str, *, mask: torch.Tensor, **more: object) -> torch.Tensor:
        seen.append(mask)
        return plain(images, prompt, mask=mask, **more)

    monkeypatch.setattr(editor, "first_prediction", first)
    METHODS["advpaint"](editor, tiny.pictures(1), steps=4)
    assert [torch.equal(mask, seen[0]) for mask in seen] == [True] * 4 + [False] * 4
    assert torch.equal(seen[0], 1 - seen[-1])
    seen.clear()
    METHODS["advpaint"](editor, tiny.pictures(1), mask=tiny.hole(1), steps=4)
    assert all(torch.equal(mask, seen[0]) for mask in seen)
    assert (seen[0] <= tiny.hole(1)).all()


@pytest.mark.parametrize("method", ["autoencoder", "decontext", "photoguard-encoder", "veto"])
def test_each_step_may_see_the_photo_at_another_size(
    method: str, tiny_editor: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preset `sizes`: sizes are drawn, results keep the photo's own."""
    editor, seen = tiny_editor("flux-kontext"), set()
    plain = editor.encode
    monkeypatch.setattr(editor, "encode", lambda x, *more: (seen.add(tuple(x.shape[-2:])), plain(x, *more))[1])
    images = tiny.pictures(1, 64, 64)
    settings = method_settings(method, "sizes", 6, {})
    assert settings["sizes"] == "all"
    protected = METHODS[method](editor, images, budget=Linf(8 / 255), **settings)
    assert protected.shape == images.shape
    assert seen == {(64, 64), (32, 32), (48, 48)}
    for wrong in ("", "12", "512,x"):
        with pytest.raises(UserError, match="sizes"):
            METHODS[method](editor, images, steps=1, sizes=wrong)


def test_sizes_of_a_large_editor_are_the_usual_ones() -> None:
    assert _sizes("all", 1024, 1024) == [(512, 512), (768, 768)]
    assert _sizes("all", 752, 1392) == [(384, 704), (560, 1040)]
    assert _sizes("512,1024", 480, 640) == [(448, 592), (880, 1184)]
