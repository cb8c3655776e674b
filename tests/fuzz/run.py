"""`make fuzz`: damaged files for an hour, or as many as are asked for; every fault with its number, none in silence.

Files are tried in child processes, so that a crash of a decoder and a hang end one of them and are counted, too. With
--number a single file is tried again, and written to a folder.
"""

import argparse
import multiprocessing
import queue
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]
from fuzz import seeds  # noqa: E402

PATIENCE = 120  # seconds for one file, then it is called a hang
MEMORY = 6_000_000_000  # bytes of address space of a child
ROUND = 200  # files a child tries before another takes its place


def work(first: int, count: int, told: Any) -> None:
    """Try files, in a process of its own."""
    from fuzz.trials import fault

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            told.put((number, None))
            said = fault(number, Path(folder))
            if said:
                told.put((number, said))
    told.put((None, None))


def tried(first: int, count: int, faults: dict[int, str]) -> int:
    """Try files first, first + 1 ...; the number of files that were tried, until a crash or hang or to the end."""
    context = multiprocessing.get_context("fork")
    told: Any = context.Queue()
    child = context.Process(target=work, args=(first, count, told), daemon=True)
    child.start()
    at = first - 1
    while True:
        try:
            number, said = told.get(timeout=PATIENCE)
        except queue.Empty:
            faults[at] = "hangs" if child.is_alive() else f"crashes the process ({child.exitcode})"
            break
        if number is None:
            break
        at = number
        if said:
            faults[number] = said
            print(f"file {number}: {said}", flush=True)
    child.kill()
    child.join()
    return at - first + 1


def kind_of(said: str) -> str:
    """Which kind of fault it is."""
    if said.startswith("crashes"):
        return "crashes"
    if said == "hangs" or "of the processor" in said:
        return "hangs"
    return "leaks" if "a preview in" in said else "other faults"


def main() -> int:
    """Run; the exit code is 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long at most")
    parser.add_argument("--files", type=int, default=10**9, help="how many at most")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--number", type=int, help="one file only; it is written to --out")
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz"))
    asked = parser.parse_args()
    if asked.number is not None:
        from fuzz.trials import fault

        name, data = seeds.damaged(asked.number)
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / name).write_bytes(data)
        with tempfile.TemporaryDirectory() as folder:
            print(asked.out / name, fault(asked.number, Path(folder)) or "is right")
        return 0
    seeds.all_seeds()
    faults: dict[int, str] = {}
    started, done = time.monotonic(), 0
    while done < asked.files and time.monotonic() - started < asked.seconds:
        done += tried(asked.first + done, min(ROUND, asked.files - done), faults)
    kinds = Counter(kind_of(said) for said in faults.values())
    print(
        f"{done} files from {asked.first} on in {time.monotonic() - started:.0f} s: "
        + ", ".join(f"{kinds[kind]} {kind}" for kind in ("crashes", "hangs", "leaks", "other faults")),
        flush=True,
    )
    for number, said in faults.items():
        print(f"  {number}: {said.strip().splitlines()[-1]}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
