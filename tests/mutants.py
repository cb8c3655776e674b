"""Faults that the tests must notice: each is put into a copy of the tree, where the tests named for it have to fail.

    python tests/mutants.py            # all, ten minutes on a busy core; `make mutants`
    python tests/mutants.py momentum   # those whose name has this in it

Ends with 1 if a fault went unnoticed, and with 2 if the text that a fault changes is no longer there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ("src", "tests", "benchmarks", "training", "docs", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
PASSED, FAILED = 0, 1  # pytest's exit codes; any other says that it could not run


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` becomes `new`; `tests` are pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


PGD, GRAPHS = "src/editproof/pgd.py", "src/editproof/editors/speed/graphs.py"
STREAMING, FUSE = "src/editproof/editors/speed/streaming.py", "src/editproof/editors/speed/fuse.py"
GUARD, CONTOURS = "src/editproof/methods/diffusionguard.py", "src/editproof/methods/contours.py"
MOVES = ("tests/test_methods.py", "-k", "another_mask or moving_masks")
BUDGETS, STREAMS = ("tests/test_budgets.py", "-k", "nearest"), ("tests/test_streams.py",)
LINF, L2 = "return delta.clamp(-self.eps, self.eps)", "return delta * (self.eps / norms(delta).clamp_min(1e-12))"

MUTANTS = (
    Mutant("momentum ignored", PGD, "momentum * direction + gradient", "gradient", ("tests/test_pgd.py",)),
    Mutant("momentum of half", PGD, "momentum * direction", "momentum / 2 * direction", ("tests/test_pgd.py",)),
    Mutant("a late step is not waited for", PGD, "copied.synchronize()", "pass", STREAMS),
    Mutant("the mask never moves: it is not shrunk", GUARD, "[contour.shrink(draw) for",
           "[torch.from_numpy(contour.kept) for", MOVES),
    Mutant("the mask never moves: one for all steps", GUARD,
           "own = draws if samples == 1 else children(draws, samples)",
           "own = children(generators(given.seed, len(images)), samples)", MOVES),
    Mutant("the mask never moves: its corners stay", CONTOURS, "moved = (corners + smoothed)",
           "moved = (corners + 0 * smoothed)", MOVES),
    Mutant("a recorded gradient counted twice", GRAPHS, "None if x is None else x.clone()",
           "None if x is None else 2 * x", STREAMS),
    Mutant("a recorded gradient of the last call", GRAPHS,
           "        torch._foreach_copy_(lease.recording.tangents, list(tangents))\n", "", STREAMS),
    Mutant("a recording with the first call's inputs", GRAPHS,
           "        torch._foreach_copy_([x.detach() for x in recording.inputs], list(tensors))\n", "", STREAMS),
    Mutant("a recording is lent twice", GRAPHS, "Lease(idle.pop(), idle)", "Lease(idle[-1], idle)", STREAMS),
    Mutant("the recording does not wait for its inputs", GRAPHS,
           "        side.wait_stream(torch.cuda.current_stream())\n", "", STREAMS),
    Mutant("computing does not wait for weights", STREAMING,
           "        computing.wait_stream(self.stream)\n", "", STREAMS),
    Mutant("weights may be freed before they are used", STREAMING,
           "            tensor.record_stream(computing)\n", "            pass\n", STREAMS),
    Mutant("copies do not wait for room", STREAMING, "            event.synchronize()\n", "", STREAMS),
    Mutant("time embedding dropped", FUSE, "block.time_emb_proj(block.nonlinearity(temb)) + before", "before",
           ("tests/test_fused.py",)),
    Mutant("time embedding without its activation", FUSE, "block.time_emb_proj(block.nonlinearity(temb))",
           "block.time_emb_proj(temb)", ("tests/test_fused.py",)),
    Mutant("the second convolution's bias dropped", FUSE, "block.conv2.bias)", "0 * block.conv2.bias)",
           ("tests/test_fused.py",)),
    Mutant("Linf scales instead of clamping", "src/editproof/budgets.py", LINF,
           "return delta * (self.eps / delta.abs().amax((1, 2, 3), keepdim=True)).clamp(max=1)", BUDGETS),
    Mutant("L2 clamps instead of scaling", "src/editproof/budgets.py", f"{L2}.clamp(max=1)",
           "return delta.clamp(-self.eps / delta[0].numel() ** 0.5, self.eps / delta[0].numel() ** 0.5)", BUDGETS),
    Mutant("L2 a hundredth short", "src/editproof/budgets.py", L2, L2.replace("self.eps", "0.99 * self.eps"), BUDGETS),
    Mutant("room is asked for at each step", GRAPHS, "        if key != self.key:\n",
           "        if key != self.key or self.choice != self.choose(*arguments, **named):\n", STREAMS),
    Mutant("recordings count as another's", "src/editproof/editors/speed/memory.py", "ours = own.held()",
           "ours = 0 * own.held()", STREAMS),
    Mutant("another licence", "pyproject.toml", 'license = "MIT"', 'license = "Apache-2.0"',
           ("tests/test_package.py", "-k", "metadata")),
)  # fmt: skip


def noticed(mutant: Mutant, tree: Path) -> bool:
    """Whether a test fails with this fault in the tree, which is mended afterwards."""
    file = tree / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.file} has {text.count(mutant.old)} times: {mutant.old.strip()}")
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        return run(tree, *mutant.tests) == FAILED
    finally:
        file.write_text(text)


def run(tree: Path, *tests: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    broken = any(f"{kind}Error:" in done.stdout for kind in ("Name", "Syntax", "Import", "ModuleNotFound"))
    if done.returncode not in (PASSED, FAILED) or broken:
        raise RuntimeError(f"pytest {' '.join(tests)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.returncode


def main(wanted: str) -> int:
    """Try all mutants with `wanted` in their names, after the same tests without any."""
    chosen = [mutant for mutant in MUTANTS if wanted in mutant.name]
    unnoticed = list[str]()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in TREE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        for tests in sorted({mutant.tests for mutant in chosen}):
            if run(tree, *tests) != PASSED:
                print(f"fails without any fault: pytest {' '.join(tests)}")
                return 1
        for mutant in chosen:
            try:
                found = noticed(mutant, tree)
            except LookupError as error:
                print(f"{mutant.name}: {error}")
                return 2
            print(f"{'noticed  ' if found else 'UNNOTICED'} {mutant.name}", flush=True)
            unnoticed += [] if found else [mutant.name]
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} faults noticed")
    return 1 if unnoticed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
