"""The same functions over HTTP: endpoints without a place on the page (docs/app.md has the client's side)."""

from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import bodies, words
from editproof.app.handlers import COMPUTE
from editproof.app.visits import Visit, keep, soon_over, visit
from editproof.app.work import TAKEN, Stopped, follow
from editproof.errors import UserError
from editproof.photo.metadata import KEEP


def build(root: Path) -> None:
    """Endpoints /protect and /edit."""
    with gr.Group(visible=False):
        photo, mask = gr.File(label="photo"), gr.File(label="mask: white = may be repainted; none: see part")
        part = gr.Textbox(words.WHOLE, label="part: person or whole")
        strength = gr.Textbox("balanced", label="strength: invisible, balanced or strong")
        format = gr.Textbox("png", label="format: png, webp, tiff, avif, jpeg or source")
        method, drawn = gr.Textbox("immunizer", label="method"), gr.Number(0, label="seed", precision=0)
        metadata = gr.Textbox(KEEP, label="metadata: keep, no-place or strip")
        against = gr.Textbox("tiny-inpaint", label="editor that an optimising method works against")
        protected, report = gr.File(label="protected"), gr.JSON(label="report: keep it private")
        prompt, editor = gr.Textbox(label="prompt"), gr.Textbox("tiny-inpaint", label="editor")
        seed, edited = gr.Number(0, label="seed", precision=0), gr.File(label="edited, with a mark")
        run_protect, run_edit = gr.Button(), gr.Button()
    settings: dict[str, Any] = {"concurrency_id": COMPUTE, "concurrency_limit": TAKEN}

    def answer(request: gr.Request, job: Any, photo: str | None, mask: str | None) -> Any:
        mine = visit(request.session_hash, root)
        keep(mine, [file for file in (photo, mask) if file])
        try:
            if not photo:
                raise UserError("photo is missing; allowed: one photo or clip")
            running = follow(mine, lambda progress: job(mine, progress), lambda told: None)
            while True:
                next(running)
        except StopIteration as done:
            return done.value
        except Stopped:
            raise gr.Error("Stopped", print_exception=False) from None
        except Exception as error:
            if isinstance(error, UserError):
                bodies.note(str(error))
            raise gr.Error(words.explain(error, mine.uploads), print_exception=False) from None
        finally:
            soon_over(mine)

    def protect(
        photo: str, mask: str | None, part: str, strength: str, format: str, method: str, editor: str, seed: int,
        metadata: str, request: gr.Request,
    ) -> tuple[str, dict[str, Any]]:  # fmt: skip
        """Protect one photo or clip; returns its file, bit for bit as it was computed, and the report."""
        choices = {"region": part, "strength": strength, "format": format, "method": method, "editor": editor,
                   "seed": seed, "metadata": metadata}  # fmt: skip
        return answer(request, lambda mine, progress: _protect(mine, photo, mask, choices, progress), photo, mask)

    def edit(photo: str, mask: str | None, prompt: str, editor: str, seed: int, request: gr.Request) -> str:
        """Edit one photo as an attacker would; returns a PNG with a mark. Edit only photos that you may edit."""
        return answer(request, lambda mine, progress: _edit(mine, photo, mask, prompt, editor, seed, progress),
                      photo, mask)  # fmt: skip

    asked = [photo, mask, part, strength, format, method, against, drawn, metadata]
    run_protect.click(protect, asked, [protected, report], api_name="protect", **settings)
    run_edit.click(edit, [photo, mask, prompt, editor, seed], [edited], api_name="edit", **settings)


def _protect(
    mine: Visit, photo: str, mask: str | None, choices: dict[str, Any], progress: Any
) -> tuple[str, dict[str, Any]]:
    from editproof.app.protecting import BY_CHOICE, Choices, protect_one

    _check_editor(choices["editor"])
    if choices["region"] not in (words.PERSON, words.WHOLE):
        raise UserError(f"part '{choices['region']}' is unknown; allowed: {words.PERSON}, {words.WHOLE}")
    result = protect_one(mine, Path(photo), mine.new_folder(), Choices(**choices),
                         lambda done: progress("Protecting", done), mask or BY_CHOICE, pictured=False)  # fmt: skip
    return str(result.file), result.report


def _edit(mine: Visit, photo: str, mask: str | None, prompt: str, editor: str, seed: int, progress: Any) -> str:
    from editproof.app import pictures
    from editproof.photo.reading import open_photo
    from editproof.protection.edit import edit_photo

    _check_editor(editor)
    words.check_seed(seed)
    out = mine.new_folder() / f"{Path(photo).stem}-edited.png"
    edit_photo(photo, prompt, out, mask=mask, editor=editor, seed=seed, progress=progress)
    pictures.save(pictures.marked(open_photo(out).pixels[None]), out)
    return str(out)


def _check_editor(name: str) -> None:
    from editproof.app.page import editors_here

    if name not in editors_here():
        raise UserError(f"editor '{name}' is not here; allowed: {', '.join(editors_here())}")
