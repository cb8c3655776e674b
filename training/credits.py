"""Write the credits of the photos the embedded models were trained on: one CSV line a scene photo.

python training/credits.py --packs ../shared/data --out src/editproof/assets/CREDITS.csv
"""

import argparse
import csv
from pathlib import Path

from photos import read_tar

FIELDS = ("author", "licence", "url", "caption")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    _, notes = read_tar(args.packs / "scenes-train.tar")
    with args.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows([note[field] or "" for field in FIELDS] for note in notes)


if __name__ == "__main__":
    main()
