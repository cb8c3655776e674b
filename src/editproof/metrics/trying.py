"""An attack as it is measured: the editor is given the photo and its protected versions, and everything is compared."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from editproof.budgets import on_grid
from editproof.editors.pipeline import Editor
from editproof.metrics.trial import Trial

Stepped = Callable[[str, int, int], None]  # which edit, its step, of how many


def edit_as_file(
    editor: Editor,
    images: Tensor,
    prompts: str | Sequence[str],
    *,
    mask: Tensor | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Tensor:
    """What an editor makes of photos (B,3,H,W) in [0,1], on the CPU and rounded to 8 bits, as a file would hold it."""
    asked = prompts if isinstance(prompts, str) else list(prompts)
    edited = editor.edit(images, asked, mask=mask, steps=steps, guidance=guidance, seed=seed, callback=callback).cpu()
    return on_grid(edited, edited)


def try_edits(
    editor: Editor,
    originals: Tensor,
    protected: Mapping[str, Tensor],
    prompts: str | Sequence[str],
    *,
    mask: Tensor | None = None,
    person: Tensor | None = None,
    counter: Callable[..., Tensor] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    another_seed: bool = True,
    callback: Stepped = lambda what, step, steps: None,
) -> dict[str, Trial]:
    """The editor's work on photos and on each of their protected versions: a Trial by the name of the version.

    The originals are edited with `seed` and with `seed + 1` (the same edit again without `another_seed`), every version
    with `seed`. With a `counter` (which moves nothing in the picture), it is done to all of them before. Photos and
    versions are (B,3,H,W) in [0,1] at the editor's size, mask and person (B,1,H,W), see Trial; an editor that takes no
    mask is given none. `callback` is told what is edited: "the original", "the original, another seed", or a version.
    """
    region = mask if editor.masked else None
    asked = [prompts] * len(originals) if isinstance(prompts, str) else list(prompts)

    def edit(images: Tensor, what: str, used: int) -> Tensor:
        return edit_as_file(
            editor, images, asked, mask=region, steps=steps, guidance=guidance, seed=used,
            callback=lambda step, steps: callback(what, step, steps),
        )  # fmt: skip

    given = {name: images if counter is None else counter(images, seed=seed) for name, images in protected.items()}
    shown = originals if counter is None else counter(originals, seed=seed)
    first = edit(shown, "the original", seed)
    other = edit(shown, "the original, another seed", seed + 1) if another_seed else first
    return {
        name: Trial(
            originals, protected[name], first, edit(images, name, seed), other, asked, region, given=images,
            person=person,
        )
        for name, images in given.items()
    }  # fmt: skip
