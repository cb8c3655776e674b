r"""How near a student is to its teacher, and whether attacks made on one hold on the other: JSON lines.

    PYTHONPATH=src python training/check_students.py --space sd1 --student work/sd1/model --weights WEIGHTS \
        --packs PACKS

On unseen portraits and scenes. Decoded: dB of the student's picture of the teacher's latents, to the photo, beside the
teacher's; and dB between the two pictures. The matrix: contrast-structure of the round trip (rows: attacked on;
columns: measured on), Linf 8/255, sign steps with momentum; lower = more is broken. Random signs are the control.
"""

import argparse
from pathlib import Path

import torch
from common import log, psnr
from photos import load_packs
from spaces import CHANNELS, Space, load_space
from students import attack, relative_error
from torch import Tensor

from editproof.metrics.contrast import contrast_structure

EPS = 8 / 255


@torch.no_grad()
def agreement(student: Space, teacher: Space, photos: Tensor, batch: int) -> dict[str, float]:
    sums: dict[str, list[Tensor]] = {"latent_error": [], "student_db": [], "teacher_db": [], "between_db": []}
    for part in photos.split(batch):
        truth, found = teacher.encode(part), student.encode(part)
        by_teacher, by_student = (space.decode(truth).clamp(0, 1) for space in (teacher, student))
        sums["latent_error"].append(relative_error(found, truth))
        sums["student_db"].append(psnr(by_student, part))
        sums["teacher_db"].append(psnr(by_teacher, part))
        sums["between_db"].append(psnr(by_student, by_teacher))
    means = {name: torch.cat(values) for name, values in sums.items()}
    return {**{name: v.mean().item() for name, v in means.items()}, "highest_error": means["latent_error"].max().item()}


def matrix(spaces: dict[str, Space], photos: Tensor, steps: int, batch: int) -> None:
    """A JSON line for each row: photos untouched, random signs, attacked on each of the spaces."""
    names = list(spaces)
    for row in ("untouched", "random signs", *names):
        scores: dict[str, list[Tensor]] = {name: [] for name in names}
        for part in photos.split(batch):
            seen = part
            if row == "random signs":
                seen = (part + EPS * torch.randn_like(part).sign()).clamp(0, 1)
            elif row in spaces:
                seen = attack(part, spaces[row], spaces[row], "student", steps, EPS)
            with torch.no_grad():
                for name, space in spaces.items():
                    scores[name].append(contrast_structure(space(seen), part))
        log(attacked_on=row, **{name: torch.cat(values).mean().item() for name, values in scores.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=CHANNELS, required=True)
    parser.add_argument("--student", required=True, help="folder of an AutoencoderTiny")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the teachers")
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--others", nargs="*", default=[], choices=CHANNELS, help="more columns and rows")
    parser.add_argument("--count", type=int, default=24, help="portraits, and as many scenes")
    parser.add_argument("--steps", type=int, default=60, help="of the attacks; 0: no matrix")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    student, teacher = (load_space(name, args.weights, args.device) for name in (args.student, args.space))
    packs = load_packs(args.packs, "val", args.device)
    for name, pictures in {"portraits": packs.portraits, "scenes": packs.scenes}.items():
        photos = pictures[:: max(1, len(pictures) // args.count)][: args.count].float() / 255
        log(photos=name, count=len(photos), **agreement(student, teacher, photos, args.batch))
        if args.steps:
            spaces = {"student": student, args.space: teacher}
            matrix(spaces | {n: load_space(n, args.weights, args.device) for n in args.others}, photos, args.steps,
                   args.batch)  # fmt: skip


if __name__ == "__main__":
    main()
