"""Our training steps, openings and views against the peers', in one process, interleaved.

    make bench          # all cases; writes bench/results.json
    make bench-quick    # the small cases for some seconds each, compared with bench/results.json

Peers (lightly, Kornia) are an extra, `pip install -e '.[bench]'`; where one is absent its rows are
left out. Times are CPU seconds of one thread, so that other people's jobs on the machine count
little: they still share its caches and its clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kaizen.compute.torchvision_compat import prepare_torchvision

prepare_torchvision()

from bench import machine  # noqa: E402  # torchvision must be prepared before anything imports it
from bench.augmentation import CASES as VIEWS  # noqa: E402
from bench.cases import CASES, DIGITS, SMALL_64, Case  # noqa: E402
from bench.contest import Contestant, Timing, contest  # noqa: E402
from bench.opening import openers  # noqa: E402
from bench.ours import OurStep  # noqa: E402
from bench.reference_loop import ReferenceStep  # noqa: E402
from kaizen.compute.device import choose_compute  # noqa: E402
from kaizen.compute.memory import keep_freed_memory  # noqa: E402
from kaizen.files import read_json, write_json  # noqa: E402

RESULTS = Path(__file__).parent / "results.json"


def main(arguments: Sequence[str]) -> int:
    """Run the contests and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small cases, compared")
    parser.add_argument(
        "--one", nargs=3, metavar=("CASE", "METHOD", "LATER"), help=argparse.SUPPRESS
    )
    known = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if known.one:
        print(json.dumps(_step_contest(*_named(*known.one))))
        return 0
    described = machine.describe()
    print(_machine_text(described))
    seconds = 5.0 if known.quick else 40.0
    contests = []
    for case in (DIGITS, SMALL_64) if known.quick else CASES:
        methods = case.methods[:1] if known.quick else case.methods
        for later, method in [(True, "simclr"), *((False, method) for method in methods)]:
            contests.append(_in_a_process(case, method, later, seconds))
            print(_contest_text(contests[-1]), flush=True)
            print(_share_text(contests[-1], described["peak"]), end="", flush=True)
    with openers() as contestants:
        timings = contest(contestants, 30, seconds, clock=time.process_time)
        contests.append(_recorded("opening 1,000 images of 32x32", timings, None))
        print(_contest_text(contests[-1]), flush=True)
    keep_freed_memory()  # as every job does
    for name, (make, images) in itertools.islice(VIEWS.items(), 3 if known.quick else None):
        runs = [Contestant(peer, images, run) for peer, run in make().items()]
        timings = contest(runs, 60, seconds, clock=time.process_time)
        contests.append(_recorded(name, timings, None))
        print(_contest_text(contests[-1]), flush=True)
    if known.quick:
        return _compare(contests, described)
    write_json(RESULTS, {"machine": described, "contests": contests})
    print(f"written: {RESULTS}")
    return 0


def _named(case: str, method: str, later: str) -> tuple[Case, str, bool, float]:
    chosen = next(one for one in CASES if one.name == case)
    kind, _, seconds = later.partition(":")
    return chosen, method, kind == "later", float(seconds)


def _in_a_process(case: Case, method: str, later: bool, seconds: float) -> dict[str, Any]:
    """The contest of one case in a process of its own, so that memory is this case's."""
    kind = f"{'later' if later else 'first'}:{seconds}"
    words = [sys.executable, "-m", "bench", "--one", case.name, method, kind]
    found = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


def _step_contest(case: Case, method: str, later: bool, seconds: float) -> dict[str, Any]:
    compute = choose_compute("cpu", "auto", 1)
    # The peers' losses have no deterministic variants, and ours need no check while they are timed.
    torch.set_deterministic_debug_mode("default")
    ours = OurStep(case, method, compute, later)
    before = machine.peak_memory_mb()
    for _ in range(2):
        ours()
    memory = {"start": before, "ours": machine.peak_memory_mb()}
    contestants = [Contestant("ours", ours.images, ours)]
    if method == "simclr":
        reference = ReferenceStep(case, later)
        contestants.append(Contestant("reference-style loop", reference.images, reference))
    if not later and case.image.channels == 3:
        try:
            from bench.lightly_recipes import LightlyStep
        except ModuleNotFoundError as error:
            print(f"lightly's rows are left out ({error}): make bench installs it", file=sys.stderr)
        else:
            lightly = LightlyStep(case, method)
            contestants.append(Contestant("lightly", lightly.images, lightly))
    timings = contest(contestants, 60, seconds, clock=time.process_time)
    step = "step k > 0" if later else "step 0"
    found = _recorded(f"{case.name}, {step}, {method}", timings, memory)
    if later:
        found |= {"gflop": case.gflop, "precision": str(compute.dtype).removeprefix("torch.")}
    return found


def _recorded(
    name: str, timings: Sequence[Timing], memory: dict[str, float] | None
) -> dict[str, Any]:
    rows = [vars(timing) | {"images_per_second": timing.images_per_second} for timing in timings]
    return {"name": name, "rows": rows, "peak_memory_mb": memory}


def _contest_text(found: dict[str, Any]) -> str:
    """The rows of a contest, with how many times as fast per image we are: by minima, 10th
    percentiles, medians.
    """
    lines = [found["name"]]
    ours = found["rows"][0]
    for row in found["rows"]:
        times = " / ".join(f"{1e3 * row[key]:.1f}" for key in ("minimum", "p10", "median"))
        line = f"  {row['name']:28} {times:>24} ms, {row['images_per_second']:>9,.0f} images/s"
        if row is not ours:
            ratios = (
                row[key] / row["images"] * ours["images"] / ours[key]
                for key in ("minimum", "p10", "median")
            )
            line += ", ours x" + " / ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"{line} (n = {row['repetitions']})")
    return "\n".join(lines)


def _share_text(found: dict[str, Any], peak: dict[str, float]) -> str:
    """What our step reaches of the machine's matrix product, and the memory that it took."""
    lines = []
    if "gflop" in found:
        rate = found["gflop"] / found["rows"][0]["minimum"]
        whole = peak[found["precision"]]
        lines.append(
            f"  ours: {rate:.0f} GFLOP/s, {rate / whole:.0%} of a {found['precision']} product"
        )
    if memory := found["peak_memory_mb"]:
        lines.append(
            f"  memory: {memory['start']:.0f} MB at the start, {memory['ours']:.0f} at most"
        )
    return "".join(f"{line}\n" for line in lines)


def _machine_text(described: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in described["packages"].items())
    peaks = ", ".join(f"{name} {rate}" for name, rate in described["peak"].items())
    cpu = " ".join(str(value) for value in described["cpu"].values())
    load = " / ".join(f"{value:.1f}" for value in described["load"])
    return (
        f"{described['cores']} cores of {cpu} ({', '.join(described['instructions'])}), "
        f"{described['memory_gib']} GiB, load {load}; {packages}; "
        f"matrix product of one thread, GFLOP/s: {peaks}"
    )


def _compare(contests: Sequence[dict[str, Any]], described: dict[str, Any]) -> int:
    """Say how the ratios stand against the recorded ones; a ratio of another machine is another
    ratio, which is said.
    """
    if not RESULTS.exists():
        print(f"nothing to compare with: {RESULTS} is not there; make bench writes it")
        return 0
    recorded = read_json(RESULTS)
    if recorded["machine"]["cpu"] != described["cpu"]:
        print("recorded on another processor: ratios differ with it")
    of_name = {one["name"]: one for one in recorded["contests"]}
    for found in contests:
        before = of_name.get(found["name"])
        if before is None:
            continue
        peers = {row["name"]: row for row in before["rows"][1:]}
        for row in found["rows"][1:]:
            if row["name"] in peers:
                now = _ratio(found["rows"][0], row)
                then = _ratio(before["rows"][0], peers[row["name"]])
                print(f"{found['name']}, against {row['name']}: x{now:.2f}, recorded x{then:.2f}")
    return 0


def _ratio(ours: dict[str, Any], peer: dict[str, Any]) -> float:
    return float(ours["images_per_second"] / peer["images_per_second"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
