"""What lossy formats leave of a perturbation, and the size of the files.

    python benchmarks/lossy.py --out outputs/lossy

scikit-image's astronaut at 512x512 and enlarged to 3000x3000 with grain, protected in one pass at 8/255 and written in
every format and quality by the command line's own function; the figures are those of the reports.
"""

import argparse
from pathlib import Path

from native_resolution import enlarge, load
from PIL import Image

from editproof.cli.display import OUT, make_table
from editproof.photo.formats import FORMATS
from editproof.protection.files import protect_photos

QUALITIES = (95, 85, 75, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    original = load("astronaut", None)
    for side in (512, 3000):
        path = args.out / f"{side}.png"
        Image.fromarray(original if side == 512 else enlarge(original, side, side)).save(path)
        rows = []
        for name, form in FORMATS.items():
            for quality in (None,) if form.lossless else QUALITIES:
                (report,) = protect_photos([path], args.out / "protected", format=name, quality=quality, overwrite=True)
                size = (args.out / "protected" / report["protected"]).stat().st_size
                rows.append(
                    {
                        "format": name, "quality": "-" if quality is None else quality, "MB": f"{size / 1e6:.2f}",
                        "left": f"{report.get('perturbation_left', 1):.0%}", "PSNR (dB)": report["psnr_db"],
                        "largest change": f"{report['linf_levels']}/255",
                    }
                )  # fmt: skip
        OUT.print(make_table(f"{side}x{side}", rows))


if __name__ == "__main__":
    main()
