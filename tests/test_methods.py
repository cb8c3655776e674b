"""Every method on every editor it supports, on tiny random pipelines."""

import importlib
import inspect
from collections.abc import Callable

import pytest
import tiny
import torch
from torch import Tensor

from editproof.budgets import L2, Budget, Linf, norms
from editproof.editors import load_editor
from editproof.editors.attention import context_mass, slice_entropy
from editproof.editors.denoising import denoising_loss
from editproof.editors.pipeline import Editor
from editproof.errors import UserError
from editproof.methods import METHODS, ready
from editproof.methods.advpaint import _attention
from editproof.methods.contours import Contour
from editproof.methods.mist import texture
from editproof.methods.prompts import GROUPS, POOL
from editproof.metrics.contrast import structure_at_scales
from editproof.people.dlib_net import face_net
from editproof.people.face_chips import find_chips
from editproof.randomness import generators

Load = Callable[[str], Editor]
IMAGES, MASK = tiny.people(), tiny.hole()  # facelock needs faces
ATTACKS: dict[str, dict] = {
    "photoguard-encoder": {},
    "photoguard-diffusion": {"samples": 1, "denoising_steps": 2},
    "diffusionguard": {},
    "decontext": {},
    "veto": {"timesteps": 2},
    "autoencoder": {},
    "facelock": {},
    "pca": {},
    "mist": {},
    "dct-shield": {"quality": 90, "reach": 8.0},
    "advpaint": {},
    "diff-pgd": {},
    "universal": {},
}
ONLY_ON = {
    "diffusionguard": ("sd-inpaint", "sdxl-inpaint", "flux-fill"),
    "decontext": ("flux-kontext", "flux2-klein"),
    "veto": ("flux-kontext", "flux2-klein"),
    "advpaint": ("sd-inpaint", "sdxl-inpaint", "flux-fill"),
}
DRAW_NOTHING = ("pca", "dct-shield")  # from the photo itself, one way down
# Editors that every method is tried on once, to save time.
NEWER = ("flux-fill", "sdxl-img2img", "sd3-img2img", "qwen-edit")
SUPPORTED = [
    (method, editor) for method in ("noise", *ATTACKS) for editor in ONLY_ON.get(method, tiny.MAKERS)
    if editor not in NEWER
]  # fmt: skip


def protect(
    method: str, editor: Editor | None, images: Tensor = IMAGES, mask: Tensor | None = MASK, **more: object
) -> Tensor:
    return METHODS[method](editor, images, **{"mask": mask, "steps": 3, **ATTACKS.get(method, {}), **more})


def test_names_and_signatures() -> None:
    assert list(METHODS) == ["noise", "immunizer", *list(ATTACKS)[:3], "diffvax", *list(ATTACKS)[3:]]
    for method in METHODS.values():
        parameters = inspect.signature(method).parameters
        assert list(parameters)[:2] == ["editor", "images"]
        assert {"mask", "prompt", "budget", "steps", "seed", "callback"} <= set(parameters)
        assert (method.__doc__ or "").strip()
        assert set(method.fast) <= set(parameters)


@pytest.mark.parametrize(("method", "name"), SUPPORTED)
@pytest.mark.parametrize("budget", [None, Linf(8 / 255), L2(0.6)], ids=str)
def test_shape_range_grid_budget_and_support(tiny_editor: Load, method: str, name: str, budget: Budget | None) -> None:
    protected = protect(method, tiny_editor(name), budget=budget)
    assert protected.shape == IMAGES.shape and protected.dtype == torch.float32
    assert not protected.requires_grad
    assert ((protected * 255).round() / 255 == protected).all() and protected.min() >= 0 and protected.max() <= 1
    paper = {
        "noise": Linf(8 / 255), "photoguard-encoder": Linf(0.03), "diffusionguard": Linf(8 / 255),
        "decontext": Linf(12.75 / 255), "veto": Linf(4 / 255),
        "autoencoder": Linf(8 / 255), "facelock": Linf(0.015), "pca": Linf(16 / 255), "mist": Linf(16 / 255),
        "dct-shield": Linf(16 / 255), "advpaint": Linf(0.03), "diff-pgd": Linf(12.75 / 255),
        "universal": Linf(16 / 255),
    }  # fmt: skip
    used = budget or paper.get(method, L2(8.0 * 32 / 512))
    delta = protected - IMAGES
    size = norms(delta).flatten() if isinstance(used, L2) else delta.abs().amax((1, 2, 3))
    assert (size <= used.eps + 1e-6).all() and (size > 0.5 * used.eps).all()
    assert torch.equal(protected[MASK.expand(-1, 3, -1, -1) > 0], IMAGES[MASK.expand(-1, 3, -1, -1) > 0])


@pytest.mark.parametrize("name", NEWER)
@pytest.mark.parametrize("method", ATTACKS)
def test_newer_editors_are_protected_against(tiny_editor: Load, method: str, name: str) -> None:
    if name not in ONLY_ON.get(method, NEWER):
        return
    images, mask, editor = IMAGES[:1], MASK[:1], tiny_editor(name)
    more = {"denoising_steps": 4} if method == "photoguard-diffusion" else {}  # of 2, SD 3 would leave out none
    protected = protect(method, editor, images, mask, budget=Linf(8 / 255), steps=2, **more)
    assert torch.equal(protected, protect(method, editor, images, mask, budget=Linf(8 / 255), steps=2, **more))
    delta = protected - images
    assert 4 / 255 < delta.abs().max() <= 8 / 255 + 1e-6
    assert torch.equal(protected[mask.expand(-1, 3, -1, -1) > 0], images[mask.expand(-1, 3, -1, -1) > 0])


@pytest.mark.parametrize(("method", "name"), SUPPORTED)
@pytest.mark.parametrize("mask", [MASK, None], ids=["mask", "no mask"])
def test_the_seed_decides_and_the_batch_does_not(
    tiny_editor: Load, method: str, name: str, mask: Tensor | None
) -> None:
    editor = tiny_editor(name)

    def run(rows: slice, seed: int) -> Tensor:
        return protect(method, editor, IMAGES[rows], None if mask is None else mask[rows], seed=seed, steps=2)

    both = run(slice(0, 2), 1)
    assert torch.equal(both, run(slice(0, 2), 1))
    # float32 sums differ in their last bits, which a face network's maxima make more of
    assert (both[1:] != run(slice(1, 2), 1)).float().mean() < (0.15 if method == "facelock" else 0.01)
    # an instructed edit of the photo is drawn, so every method but the encoder attack's end point moves with the seed
    draws = method not in DRAW_NOTHING and (method != "universal" or editor.masked)
    assert torch.equal(both, run(slice(0, 2), 2)) != draws


def own_objective(method: str, editor: Editor, original: Tensor, mask: Tensor | None) -> Callable[[Tensor], Tensor]:
    """What the paper wants small, as a mean over draws that the method has not seen."""

    def measure(images: Tensor) -> Tensor:
        if method == "photoguard-encoder":
            return norms(editor.encode(images, mask) - editor.encode(torch.full_like(images, 0.5)))
        if method == "autoencoder":
            kept = None if mask is None else 1 - mask
            return structure_at_scales(editor.decode(editor.encode(images, mask)), original, kept)
        if method == "pca":
            posterior = editor.posterior(images, mask)
            return (posterior.mean.square() + posterior.logvar.exp()).flatten(1).mean(1)
        if method == "dct-shield":
            return norms(editor.encode(images, mask) - editor.encode(torch.full_like(images, 0.5)))
        if method in ("mist", "universal"):
            return norms(editor.encode(images, mask) - editor.encode(texture(*images.shape[-2:])))
        if method == "advpaint":
            away = []
            for seed in range(100, 104):
                pair = [_attention(editor, x, "", mask, generators(seed, len(x))) for x in (images, original)]
                away.append(-torch.stack([(a - b).norm() for a, b in zip(*pair, strict=True)]).sum().view(1))
            return torch.stack(away).mean(0)
        if method == "diff-pgd":
            losses = [
                -denoising_loss(editor, images, mask=mask, strength=0.99, generator=generators(seed, len(images)))
                for seed in range(100, 104)
            ]
            return torch.stack(losses).mean(0)
        if method == "facelock":
            faces = find_chips(original)
            seen = editor.decode(editor.encode(images, mask)).clamp(0, 1)
            return -(face_net()(faces.cut(seen)) - face_net()(faces.cut(original))).norm(dim=1)
        draws = [generators(seed, len(images)) for seed in range(100, 104)]
        if method == "decontext":
            blocks = "all single"
            norm = [context_mass(editor, images, blocks=blocks, timestep=0.99, generator=draw) for draw in draws]
        elif method == "veto":
            blocks = "double.0"
            norm = [-slice_entropy(editor, images, blocks=blocks, timestep=0.8, generator=draw) for draw in draws]
        elif method == "diffusionguard":
            norm = [-norms(editor.first_prediction(images, mask=mask, generator=draw)) for draw in draws]
        else:
            norm = [norms(editor.sample(images, "", mask=mask, steps=2, generator=draw) - 0.5) for draw in draws]
        return torch.stack(norm).mean(0)

    return torch.no_grad()(measure)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (method, "tiny-inpaint")
        for method in ATTACKS
        if "flux-kontext" not in ONLY_ON.get(method, ()) and method != "pca"
    ]
    + [("pca", "sd-inpaint")]  # tiny-inpaint's autoencoder gives no distribution
    + [("photoguard-encoder", name) for name in tiny.MAKERS]
    + [(method, "flux-kontext") for method in ("photoguard-diffusion", "decontext", "veto")]
    + [(method, "flux2-klein") for method in ("decontext", "veto", "autoencoder")],
)
def test_an_attack_beats_noise_in_its_own_objective(tiny_editor: Load, method: str, name: str) -> None:
    """The objectives of a random UNet hardly depend on the photo, so that takes the embedded, trained editor."""
    embedded, budget = name == "tiny-inpaint", Linf(16 / 255)
    editor = load_editor(name, device="cpu") if embedded else tiny_editor(name)
    side = 64 if embedded else tiny.SIZE
    images, mask = tiny.people(1, side, side), tiny.hole(1, side, side)
    measure = own_objective(method, editor, images, mask if editor.masked else None)
    untouched = measure(images)
    more = {"samples": 4} if (method, name) == ("photoguard-diffusion", "flux-kontext") else {}
    gain = untouched - measure(protect(method, editor, images, mask, budget=budget, steps=12, **more))
    by_chance = untouched - measure(protect("noise", editor, images, mask, budget=budget))
    assert gain.item() > (1.3 if embedded else 3) * abs(by_chance.item())


@pytest.mark.parametrize("method", ATTACKS)
def test_the_fast_preset_is_fewer_steps(method: str) -> None:
    """With momentum, but for the encoder attacks, which are better without."""
    defaults = inspect.signature(METHODS[method]).parameters
    knobs = {name: parameter.default for name, parameter in defaults.items()} | METHODS[method].fast
    assert knobs["steps"] <= 100 and 0 <= knobs["momentum"] < 1
    assert (knobs["momentum"] == 0) == (method in ("photoguard-encoder", "dct-shield"))


def test_what_methods_refuse(tiny_editor: Load) -> None:
    editor = tiny_editor("sd-inpaint")
    for method in ATTACKS:
        with pytest.raises(UserError, match=f"{method} needs an editor"):
            protect(method, None)
    for method, names in ONLY_ON.items():
        for name in set(tiny.MAKERS) - set(names):
            kind = "in-context" if "flux-kontext" in names else "inpainting"
            with pytest.raises(UserError, match=f"{method} works on {kind} editors only, and .*{name}"):
                protect(method, tiny_editor(name), mask=None)
    for method in ready():
        editor = tiny_editor(ONLY_ON.get(method, ["sd-inpaint"])[0])
        with pytest.raises(UserError, match="repaint the whole picture"):
            protect(method, editor, mask=torch.ones_like(MASK))
        with pytest.raises(UserError, match=r"mask is of shape \(2, 1, 16, 16\)"):
            protect(method, editor, mask=MASK[..., :16, :16])
    with pytest.raises(UserError, match="multiples of 8"):
        protect("photoguard-diffusion", editor, tiny.pictures(2, 32, 33), tiny.hole(2, 32, 33))


def test_one_mask_serves_a_batch(tiny_editor: Load) -> None:
    one = MASK[:1]
    for method in ("noise", *ATTACKS):
        editor = tiny_editor(ONLY_ON.get(method, ["sd-inpaint"])[0])
        both = protect(method, editor, mask=one, steps=1)
        assert torch.equal(both, protect(method, editor, mask=one.expand(2, -1, -1, -1), steps=1))


def test_noise_is_random_signs_at_full_strength() -> None:
    grey = torch.full((1, 3, 64, 64), 128 / 255)
    delta = ((protect("noise", None, grey, None) - grey) * 255).round()
    assert set(delta.unique().tolist()) == {-8.0, 8.0} and delta.mean().abs() < 0.5


def test_progress(tiny_editor: Load) -> None:
    for method in ATTACKS:
        told: list[tuple[int, int]] = []
        editor = tiny_editor(ONLY_ON.get(method, ["sd-inpaint"])[0])
        protect(
            method, editor, seed=77, callback=lambda *news, told=told: told.append(news[:2])
        )  # found by no other test
        assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_moving_masks_of_diffusionguard_keep_a_part_of_what_is_kept() -> None:
    kept = torch.zeros(64, 96)
    kept[20:60, 30:70] = 1
    kept[:4, :4] = 1  # a smaller part: the outline is that of the largest
    contour = Contour(kept)
    assert contour.radius == pytest.approx((torch.pi * kept.sum().item() * (512 / 96) ** 2 / 2) ** 0.5, rel=0.01)
    draws = [contour.shrink(generator) for seed in range(40) for generator in generators(seed, 1)]
    assert all((smaller.bool() <= kept.bool()).all() and smaller.any() for smaller in draws)
    shares = torch.tensor([smaller.sum() / kept.sum() for smaller in draws])
    assert 0.2 < shares.mean() < 0.95 and shares.std() > 0.02
    assert torch.equal(contour.shrink(generators(3, 1)[0]), draws[3])
    dot = torch.zeros(64, 64)
    dot[5, 5] = 1
    assert Contour(dot).shrink(generators(0, 1)[0]).sum() == 1


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("mask", [MASK, None], ids=["mask", "no mask"])
def test_diffusionguard_shows_the_editor_another_mask_at_each_step(
    tiny_editor: Load, monkeypatch: pytest.MonkeyPatch, mask: Tensor | None, samples: int
) -> None:
    editor, holes = tiny_editor("sd-inpaint"), list[Tensor]()

    def record(images: Tensor, prompt: str, *, mask: Tensor, **more: object) -> Tensor:
        holes.append(mask)
        return images.repeat(len(mask) // len(images), 1, 1, 1)

    monkeypatch.setattr(editor, "first_prediction", record)
    protect("diffusionguard", editor, tiny.people(2, 64, 64), None if mask is None else tiny.hole(2, 64, 64), steps=8,
            samples=samples)  # fmt: skip
    assert [len(hole) for hole in holes] == [2 * samples] * 8
    for row in range(2):
        drawn = [hole[0] for step in holes for hole in step[row::2]]
        different = {hole.numpy().tobytes() for hole in drawn}
        assert len(different) > 0.8 * len(drawn)
        if mask is not None:
            assert all((hole >= tiny.hole(2, 64, 64)[row, 0]).all() for hole in drawn), "more is kept than was asked"


def test_a_kept_region_that_fills_the_border_has_an_outline() -> None:
    kept = torch.ones(32, 32)
    kept[:, :8] = 0
    assert 0 < Contour(kept).shrink(generators(0, 1)[0]).sum() <= kept.sum()


def test_the_prompts_of_decontext() -> None:
    assert {group: len(prompts) for group, prompts in GROUPS.items()} == dict.fromkeys(
        ("expression", "accessory", "posture", "style", "scene", "combined"), 10
    )
    assert len(set(POOL)) == 60
    assert all(prompt == prompt.strip() and prompt for prompt in POOL)


def test_what_decontext_draws(tiny_editor: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt and a timestep for each image and step, from the pool and .98 to 1, or what was asked for."""
    module = importlib.import_module("editproof.methods.decontext")
    editor, prompts, timesteps, blocks = tiny_editor("flux-kontext"), [], [], []

    def record(editor: Editor, images: Tensor, reading: dict, **knobs: object) -> Tensor:
        timesteps.append(knobs["timestep"])
        blocks.append(knobs["blocks"])
        return images.sum((1, 2, 3))

    with monkeypatch.context() as patch:
        patch.setattr(module, "context_mass", record)
        patch.setattr(editor, "encode_prompt", lambda images, texts: prompts.append(texts) or {})
        METHODS["decontext"](editor, IMAGES, steps=40)
        drawn = {prompt for pair in prompts for prompt in pair}
        assert len(drawn) > 25
        assert drawn <= set(POOL)
        levels = torch.stack(timesteps)
        assert levels.shape == (40, 2)
        assert 0.98 <= levels.min() < 0.985 < 0.995 < levels.max() <= 1
        assert blocks[0] == "single.0,single.1,single.2"
        prompts.clear()
        METHODS["decontext"](editor, IMAGES, steps=3, prompt="add a hat", read_every=2, blocks="double.1")
        assert prompts == [["add a hat"] * 2] * 2
        assert blocks[-1] == "double.1"
    with pytest.raises(UserError, match=r"lowest_timestep is 1\.5"):
        METHODS["decontext"](editor, IMAGES, lowest_timestep=1.5)
    with pytest.raises(UserError, match=r"no block single\.9"):
        METHODS["decontext"](editor, IMAGES, blocks="single.9", steps=1)


def test_veto_averages_over_the_noise_levels_of_an_edit(tiny_editor: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("editproof.methods.veto")
    editor, levels = tiny_editor("flux-kontext"), []

    def record(editor: Editor, images: Tensor, prompt: str, **knobs: object) -> Tensor:
        levels.extend(knobs["timestep"][:: len(images)].tolist())
        assert len(knobs["generator"]) == 4 * len(images)
        return images.sum((1, 2, 3)).repeat(4)

    monkeypatch.setattr(module, "slice_entropy", record)
    METHODS["veto"](editor, IMAGES, steps=2, timesteps=4)
    assert levels == pytest.approx([1, 0.826, 0.612, 0.345] * 2, abs=1e-3)
