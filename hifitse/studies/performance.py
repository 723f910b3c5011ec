"""Speed of the model: fast paths against plain formulas, time by length, busy machines, long recordings.

Times are rounds in turns (:func:`hifitse.evaluation.cost.turns`).
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.conditions import Conditions
from hifitse.data.mixing import Mixer
from hifitse.evaluation.cost import CostError, build, made_up_batch, turns
from hifitse.machine import peak_mb, pick_device, threads
from hifitse.model import kernels
from hifitse.model.extract_files import encode_files, extract_file
from hifitse.params import PRESET_DIR, Params, load_yaml, resolve
from hifitse.pool import answer, importing
from hifitse.training.train import State, new_state, train_step

FAST, ALONE, PLAIN = "fast", "fast, nothing shared", "plain"
SPINNING, PASSIVE = "default", "passive"
PIECE_S = 4.0
"""s: length of the mixtures that a long recording is put together from."""
Times = dict[str, list[float]]
"""Name -> seconds, one a round."""


def models(params: Params) -> dict[str, Params]:
    """The parameters by the name of their preset, and with the preset's best recipe laid over, where there is one."""
    best, found = f"{params.preset}-best", {params.preset: params}
    if (PRESET_DIR / f"{best}.yaml").is_file():
        found[best] = Params(**(params.model_dump() | load_yaml(best)))
    return found


def plans(params: Params) -> dict[str, Params]:
    """The model of preset full and its best recipe; none where ``bench_full_seconds`` is empty."""
    if params.preset == "full" or not params.bench_full_seconds:
        return {}
    given = {"threads": params.threads, "device": params.device}
    return {name: resolve("full", overlay, **given) for name, overlay in (("full", None), ("full-best", "full-best"))}


def _states(params: Params) -> dict[str, tuple[State, dict[str, Any]]]:
    """Equal weights and their batch: as it is, with nothing shared among its items, and for the plain formulas."""
    batch = made_up_batch(params)
    alone = {name: value for name, value in batch.items() if name != "shared"}
    found = {FAST: (new_state(params), batch)}
    if "shared" in batch and not params.enroll_dropout and not params.specaug:
        found[ALONE] = (new_state(params), alone)
    return found | {PLAIN: (new_state(params), alone)}


def _forward(state: State, batch: Mapping[str, Any]) -> None:
    with torch.no_grad():
        state.model(batch["mix"].to(state.device), batch["enroll"].to(state.device), None, batch.get("shared"))


def versions(params: Params, rounds: int) -> dict[str, Times]:
    """Forward pass or training step -> version -> seconds: equal weights, in turns, ``rounds`` 1 or more.

    The plain formulas are those of :func:`hifitse.model.kernels.plain`.
    """

    def run(name: str, call: Any, *arguments: Any) -> None:
        with kernels.plain(name == PLAIN):
            call(*arguments)

    params = params.model_copy(update={"accumulation": 1})
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        states = _states(params)
        forward = {name: partial(run, name, _forward, *each) for name, each in states.items()}
        step = {name: partial(run, name, train_step, state, [batch]) for name, (state, batch) in states.items()}
        return {"forward pass": turns(forward, rounds), "training step": turns(step, rounds)}


def equal(params: Params) -> dict[str, float]:
    """Largest differences of the plain formulas from the fast paths, relative to the largest value.

    Both in float64: in float32 one unit of a perceptron in a million is on in one and off in the other, by rounding alone.

    Returns:
        ``outputs`` and ``gradients``, both without unit.
    """
    found: dict[str, list[torch.Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        for name, (state, batch) in _states(params.model_copy(update={"precision": "float32", "device": "cpu"})).items():
            model = state.model.double()
            mix, target, enroll = (batch[part].double() for part in ("mix", "target", "enroll"))
            with kernels.plain(name == PLAIN):
                est = model(mix, enroll, None, batch.get("shared"))
                state.objective(est, target, mix, batch["present"], batch, model).total.backward()
            gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            found[name] = [est.detach().flatten(), torch.cat(gradients)]
    pairs = zip(("outputs", "gradients"), found[FAST], found[PLAIN], strict=True)
    return {name: float((one - other).abs().max() / one.abs().max()) for name, one, other in pairs}


def by_length(params: Params, lengths: Sequence[float], rounds: int) -> dict[float, float]:
    """Length of a mixture, s above 0 -> median seconds of its forward pass; the enrolment was encoded before. ``rounds`` 1 or more."""
    device = pick_device(params.device)
    model = build(params.extractor).eval().to(device)
    enroll = 0.1 * torch.randn(1, round(params.enroll_seconds * SAMPLE_RATE), device=device)
    with torch.inference_mode(), threads(params.threads or torch.get_num_threads()):
        speaker = model.encode(enroll)
        mixes = {seconds: 0.1 * torch.randn(1, round(seconds * SAMPLE_RATE), device=device) for seconds in lengths}
        times = turns({seconds: partial(model.extract_speaker, mix, speaker) for seconds, mix in mixes.items()}, rounds)
    return {seconds: float(np.median(each)) for seconds, each in times.items()}


def exponent(times: Mapping[float, float]) -> float:
    """Of the power law that fits s of mixture -> s of computation best: 1 where twice the length takes twice the time.

    Raises:
        CostError: fewer than two lengths.
    """
    if len(times) < 2:
        raise CostError(f"lengths are {sorted(times)} s, expected two or more to fit a power law")
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])


@contextmanager
def _busy(programs: int) -> Iterator[None]:
    """So many other programs, each of which keeps one core busy."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def beside_others(params: Params, rounds: int, programs: Sequence[int] = (0, 1, 2)) -> dict[int, float]:
    """Number of other busy programs -> median seconds of a training step beside them."""
    params, found = params.model_copy(update={"accumulation": 1}), {}
    with torch.random.fork_rng(devices=[]), threads(params.threads or torch.get_num_threads()):
        state, batch = new_state(params), [made_up_batch(params)]
        for count in programs:
            with _busy(count):
                found[count] = float(np.median(turns({"step": partial(train_step, state, batch)}, rounds)["step"]))
    return found


def waiting(params: Params, rounds: int) -> Times:
    """Seconds of a training step on 2 threads that wait for each other as the system has it, or passively; one a round, in turns.

    Each is a process of its own, for the way is chosen when torch is loaded. Where anything else runs, the ratio says nothing of an
    idle machine.
    """
    found: Times = {PASSIVE: [], SPINNING: []}
    environment = {name: value for name, value in importing().items() if not name.startswith(("OMP_", "GOMP_"))}
    own = params.model_copy(update={"threads": 2}).model_dump_json()
    code = f"from hifitse.studies.performance import Params, beside_others as b; print(b(Params.model_validate_json({own!r}), 3, [0])[0])"
    for turn in range(rounds):
        for name in list(found)[:: 1 if turn % 2 else -1]:
            # the library makes waiting passive unless torch was loaded before it
            found[name].append(answer("trains", f"import torch; {code}" if name == SPINNING else code, environment))
    return found


def conversation(params: Params, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A recording ``(T,)`` of two test speakers who go on talking for ``seconds`` above 0, and an enrolment ``(T',)`` of one of them.

    It is one test mixture again and again, each time from another place on and each speaker up to 3 dB louder or quieter.
    """
    if not seconds > 0:
        raise HifitseError(f"seconds of the recording are {seconds}, expected a length above 0")
    alone = params.model_copy(update={"reverb_prob": 0.0, "interferers_min": [1], "interferers_max": [1], "seconds": PIECE_S})
    mixture = Mixer(alone, "test").mixture(0, 0, Conditions("test", PIECE_S, snr_min_db=15, snr_max_db=30))
    rng = np.random.default_rng(0)

    def turned(signal: np.ndarray) -> np.ndarray:
        return np.roll(signal, rng.integers(len(signal))) * np.float32(10 ** (rng.uniform(-3, 3) / 20))

    count = int(np.ceil(seconds / PIECE_S))
    pieces = [turned(mixture.target) + turned(mixture.interferers[0]) + mixture.noise for _ in range(count)]
    return np.concatenate(pieces)[: round(seconds * SAMPLE_RATE)], mixture.enroll[0]


def long_recordings(params: Params, lengths: Sequence[float]) -> dict[float, dict[str, float]]:
    """Extract from recordings on disk with the model inside, each length (s, above 0) in a process of its own.

    Returns:
        s -> ``took_s``: of the extraction alone; ``peak_mb``: most resident memory of the process; ``before_mb``: before it began.
    """
    found = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        mix, enroll = conversation(params, 30.0)
        soundfile.write(folder / "voice.wav", enroll, SAMPLE_RATE, subtype="FLOAT")
        for seconds in lengths:
            left = round(seconds * SAMPLE_RATE)
            with soundfile.SoundFile(folder / "mix.wav", "w", SAMPLE_RATE, 1, subtype="FLOAT") as file:
                while left > 0:  # piece by piece: this process need not hold it either
                    file.write(mix[:left])
                    left -= len(mix[:left])
            code = f"from hifitse.studies.performance import _answer; _answer({params.threads or torch.get_num_threads()})"
            found[seconds] = answer("extracts", code, importing(), folder)
    return found


def _answer(count: int) -> None:
    """What :func:`long_recordings` asks of its process, in a folder with ``mix.wav`` and ``voice.wav``: one line of JSON."""
    from hifitse.model import Extractor

    torch.set_num_threads(count)
    extractor = Extractor.from_pretrained()
    speaker = encode_files(extractor, ["voice.wav"])
    before, started = peak_mb(), time.perf_counter()
    extract_file(extractor, speaker, Path("mix.wav"), Path("est.wav"), progress=False)
    print(json.dumps({"took_s": time.perf_counter() - started, "peak_mb": peak_mb(), "before_mb": before}))
