"""The first tab: drop photos, say what to protect and how strongly, look at the result, download it."""

import zipfile
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr

from editproof.app import words
from editproof.app.handlers import Updates, quick, start_and_stop
from editproof.app.visits import Visit, keep
from editproof.app.work import follow
from editproof.photo.decoding import SUFFIXES
from editproof.video.reading import SUFFIXES as CLIPS

NOTHING_YET = "Drop a photo and press **Protect**; what comes out is shown here."
EXAMPLE_SIDE = 512  # pixels


def build(root: Path, methods: list[tuple[str, str]], editors: list[str]) -> None:
    """The tab's components and what they do. methods: (label, name); editors: names."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            photos = gr.File(
                label="Photos and clips", file_count="multiple", file_types=[*SUFFIXES, *CLIPS], height=140,
                elem_id="photos",
            )  # fmt: skip
            example = gr.Button("No photo at hand? Take the example", size="sm")
            region = gr.Radio(
                [(label, name) for name, label in words.REGIONS.items()], value=words.PERSON,
                label="What is to be protected?", elem_id="region",
            )  # fmt: skip
            found = gr.Image(
                label="The bright part is protected", interactive=False, visible=False, type="filepath", format="png",
                buttons=[], elem_id="found", height=220, alt_text="The photo, dark where it is not protected",
            )  # fmt: skip
            painter = gr.ImageEditor(
                label="Paint what to protect", visible=False, type="numpy", format="png", sources=(),
                transforms=(), layers=False, buttons=[], elem_id="painter", height=420,
                brush=gr.Brush(colors=[("#00c853", 0.6)], color_mode="fixed", default_size=40),
            )  # fmt: skip
            strength = gr.Radio(
                words.strength_choices(), value="balanced", label="How strongly?", info=words.strength_note(),
                elem_id="strength",
            )  # fmt: skip
            with gr.Accordion("Advanced", open=False):
                method = gr.Dropdown(methods, value=methods[0][1], label="Method")
                editor = gr.Dropdown(
                    editors, value=editors[0], label="Editor to protect against",
                    info="For methods that optimise against an editor; the one-pass method needs none.",
                )  # fmt: skip
                format = gr.Radio(
                    [("PNG, lossless", "png"), ("The photo's own format", "source")], value="png",
                    label="Save as", info="JPEG and AVIF lose some of the protection.",
                )  # fmt: skip
                again = gr.Checkbox(label="Protect again what is marked as protected")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            with gr.Row():
                start = gr.Button("Protect", variant="primary", elem_id="protect")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="protect-stop")
            status = gr.HTML(elem_id="protect-status")
        with gr.Column(min_width=320):
            told = gr.Markdown(NOTHING_YET, elem_id="facts")
            download = gr.DownloadButton("Download", variant="primary", visible=False, elem_id="download")
            picked = gr.Dropdown([], label="Show", visible=False, elem_id="picked")
            slider = gr.ImageSlider(
                label="Original | protected: move the line", interactive=False, visible=False,
                type="filepath", format="png", buttons=["fullscreen"], elem_id="slider",
            )  # fmt: skip
            change = gr.Image(
                label="What was changed, 10 times as strong", interactive=False, visible=False, type="filepath",
                format="png", buttons=["fullscreen"], elem_id="change", alt_text="The perturbation, amplified",
            )  # fmt: skip
            with gr.Accordion("For your records: keep these to yourself", open=False, visible=False) as private:
                gr.Markdown("Every setting and measurement. Publish the photo, not these: they help to undo it.")
                reports = gr.File(label="Reports", interactive=False, file_count="multiple")

    def look(visit: Visit, paths: list[str] | None, region: str) -> Updates:
        keep(visit, paths or [])
        hidden = {found: gr.update(visible=False), painter: gr.update(visible=False)}
        if not paths:
            return {status: "", **hidden}
        return {status: "", **hidden, **_preview(visit, Path(paths[0]), len(paths), region, found, painter)}

    def work(visit: Visit, paths: list[str] | None, *values: Any) -> Generator[Updates, None, None]:
        from editproof.app.protecting import Choices, protect_all

        keep(visit, paths or [])
        choices = Choices(**dict(zip((f.name for f in fields(Choices)), values, strict=True)))
        done, wrong = yield from follow(
            visit, lambda progress: protect_all(visit, paths or [], choices, progress), lambda t: {status: words.bar(t)}
        )
        if not done:
            yield {status: words.problem(*wrong)}
            return
        first = len(visit.results)
        visit.results += done
        names = [(result.report["protected"], first + i) for i, result in enumerate(done)]
        yield {
            status: words.problem(*wrong) if wrong else words.said(f"Done: {len(done)} protected."),
            download: gr.update(value=str(_to_download(done)), visible=True, label=_label(done)),
            picked: gr.update(choices=names, value=first, visible=len(done) > 1),
            reports: [str(result.file.with_suffix(".json")) for result in done],
            private: gr.update(visible=True),
            **show(visit, first),
        }

    def show(visit: Visit, number: int | None) -> Updates:
        from editproof.app.protecting import facts

        if number is None or number >= len(visit.results):
            return {told: NOTHING_YET}
        result = visit.results[number]
        return {
            told: facts(result),
            slider: gr.update(value=(result.before, result.after), visible=True),
            change: gr.update(value=result.change, visible=True),
        }

    start_and_stop(
        start, stop, status, work, [photos, region, painter, strength, method, editor, format, again, seed],
        [told, download, picked, slider, change, private, reports], root,
    )  # fmt: skip
    for event in (photos.change, region.change):
        event(
            quick(look, status, root), [photos, region], [status, found, painter], api_visibility="private",
            show_progress="minimal",
        )  # fmt: skip
    picked.change(quick(show, status, root), [picked], [status, told, slider, change], api_visibility="private")
    example.click(quick(lambda visit: {photos: [str(example_photo(visit))]}, status, root), None, [status, photos],
                  api_visibility="private")  # fmt: skip


def example_photo(visit: Visit) -> Path:
    """The photograph of `make demo` (NASA, public domain), as a file of this visitor's."""
    from editproof.bench.demo import astronaut
    from editproof.photo.reading import save_png

    path = visit.folder / "astronaut.png"
    if not path.is_file():
        save_png(path, astronaut(EXAMPLE_SIDE)[0][0])
    return path


def _preview(visit: Visit, photo: Path, count: int, region: str, found: Any, painter: Any) -> Updates:
    """What of the first photo will be protected, or the photo to paint on. Raises UserError."""
    from editproof.app import pictures
    from editproof.app.regions import people
    from editproof.photo.reading import open_photo
    from editproof.video.reading import is_clip

    if is_clip(photo) or region == words.WHOLE:
        return {}
    opened = open_photo(photo)
    if region == words.PAINTED:
        canvas = pictures.save(pictures.shown(opened, pictures.PAINTED_SIDE), visit.new_folder() / "canvas.png")
        return {painter: gr.update(value={"background": canvas, "layers": [], "composite": None}, visible=True)}
    mask, said = people(opened)
    image = pictures.shown(opened) if mask is None else pictures.highlighted(opened, mask)
    path = visit.new_folder() / "found.png"
    more = " (the first photo)" if count > 1 else ""
    return {found: gr.update(value=pictures.save(image, path), visible=True, label=said + more)}


def _to_download(done: list[Any]) -> Path:
    """The protected photo, or a ZIP of all of them."""
    if len(done) == 1:
        return done[0].file
    archive, taken = done[0].file.parent.parent / "protected-photos.zip", set[str]()
    with zipfile.ZipFile(archive, "w") as file:
        for number, result in enumerate(done, 1):
            name = result.file.name if result.file.name not in taken else f"{number}-{result.file.name}"
            taken.add(name)
            file.write(result.file, name)
    return archive


def _label(done: list[Any]) -> str:
    return f"Download {done[0].file.name}" if len(done) == 1 else f"Download all {len(done)} as a ZIP"
