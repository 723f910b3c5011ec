"""Every parameter of a run: name, type, unit, legal range, default. :class:`hifitse.config.Data` decides the mixtures,
:class:`Learning` the weights, the rest of :class:`Params` neither: the class of a new parameter says which results get a new name.

The defaults are the plan's baseline ("full"). A preset in ``params/`` is a flat YAML file of the keys it changes.
``resolve`` builds a :class:`Params` from a preset and explicit values; ``from_notebook`` does the same from a
notebook's parameter cells and refuses names that do not exist, which papermill itself only warns about.
"""

import ast
import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from hifitse.config import PHASED, Data, ExtractorConfig, allowed
from hifitse.presets import PRESET_DIR, ParameterError, load_yaml, preset_values

__all__ = ["NOT_EVALUATION", "NOT_TRAINING", "PHASED", "PRESET_DIR", "ExtractorConfig", "ParameterError", "Params", "describe"]
__all__ += ["from_notebook", "load_yaml", "resolve"]


BENCHED = {"bench_seconds": (0.1, 600), "bench_full_seconds": (0.1, 600)}
"""Lengths that are measured, s, and the shortest and longest of each."""
RETIRED: dict[str, Sequence[Any]] = {
    "remix": (1,), "bench_compile": (True, False), "valid_like": ("",), "bench_utterances": range(20, 10**8 + 1),
    "bench_long_seconds": ([30.0, 300.0, 1800.0], [30.0, 120.0, 600.0, 1800.0], [2.0]),
}  # fmt: skip
"""Parameters that are no more, with their defaults, or all values where none changed a training: files of older runs can be read."""


class Learning(Data):
    """What changes the trained weights, and rows of an evaluation only through them."""

    # ---- mixtures and augmentation of the training alone
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of weights, mixtures and dropout")
    both_talkers: bool = Field(False, description="use each training mixture twice, the second time for its loudest interferer")
    lone_prob: float = Field(0.0, ge=0, le=1, description="share of training mixtures without interferers")
    acoustics_prob: float = Field(0.0, ge=0, le=1, description="share of training talkers, and of enrolments, as if recorded elsewhere")
    enroll_seconds_min: float = Field(0.0, ge=0, le=60, description="s: shortest enrolment of a training step; 0: always enroll_seconds")
    specaug: float = Field(0.0, ge=0, le=0.5, description="largest share of the frequencies, or frames, that a mask hides from the network")
    specaug_masks: int = Field(2, ge=1, le=10, description="masks along frequency, and as many along time, on a mixture; see specaug")
    band_limit_prob: float = Field(0.0, ge=0, le=1, description="share of mixtures, and of enrolments, as if recorded at a lower rate")
    enroll_augment_prob: float = Field(0.0, ge=0, le=1, description="share of enrolments through an equaliser, a band limit or a codec")
    pitch_prob: float = Field(0.0, ge=0, le=1, description="share of training enrolments spoken lower or higher, and slower or faster")
    enrollments_min: int = Field(0, ge=0, le=10, description="fewest enrolments of a training step, drawn up to enrollments; 0: always all")

    # ---- losses: weight 0 leaves a term out
    loss_si_sdr: float = Field(1.0, ge=0, le=1000, description="weight of the negative SI-SDR in dB")
    loss_snr: float = Field(0.0, ge=0, le=1000, description="weight of the negative SNR in dB, which unlike SI-SDR fixes the level")
    loss_phase: float = Field(0.5, ge=0, le=1000, description="weight of the phase-sensitive spectral term")
    loss_amplitude: float = Field(1.0, ge=0, le=1000, description="weight of the amplitude spectral term")
    loss_absent: float = Field(1.0, ge=0, le=1000, description="weight of the output level in dB relative to the mixture, target absent")
    loss_multires: float = Field(0.0, ge=0, le=1000, description="weight of the negative SI-SDR in dB of spectrograms at 3 resolutions")
    loss_speaker: float = Field(0.0, ge=0, le=1000, description="weight of the contrast between the estimate's voice and others")
    loss_identity: float = Field(0.0, ge=0, le=1000, description="weight of the contrast between enrolments and clean targets by embedding")
    loss_verifier: float = Field(0.0, ge=0, le=1000, description="weight of 1 - cosine of estimate and clean target to the verifier")
    loss_late: str = Field("", description="terms of the second half of the training, such as multires; weighting: learned weights there")
    speaker_temperature: float = Field(0.1, gt=0, le=10, description="temperature of these contrasts: voices are compared by cosine")
    loss_weighting: Literal["fixed", "uncertainty"] = Field("fixed", description="uncertainty: factors are learned (Kendall et al. 2018)")
    loss_absent_kind: Literal["relative", "floor"] = Field("relative", description="level relative to the mixture, or dBFS, flat below -30")

    # ---- fine-tuning of a finished run, with or without discriminators
    start_from: str = Field("", pattern=r"^([0-9a-f]{16})?$", description="run, 16 hex digits, whose averaged weights to start from")
    freeze_norms: bool = Field(False, description="gains and offsets of the layer norms do not learn")
    gan: Literal["none", "hifigan", "stft"] = Field("none", description="discriminators: of periods and scales, or of complex spectra")
    disc_channels: int = Field(32, ge=4, le=256, description="width of the discriminators; 32 is that of their papers")
    disc_lr: float = Field(1e-5, gt=0, le=1, description="learning rate of the discriminators")
    gan_seconds: float = Field(1.0, ge=0.1, le=60, description="s: length of the random part of a segment that the discriminators hear")
    gan_warmup: float = Field(0.1, ge=0, lt=1, description="first share of the steps, in which only the discriminators learn")
    gan_ramp: float = Field(0.2, ge=0, le=1, description="share of the steps, after the warm-up, over which adversarial terms rise")
    gan_patience: int = Field(50, ge=1, le=1_000_000, description="updates in a row that must show a collapse before the run is stopped")
    loss_adversarial: float = Field(1.0, ge=0, le=1000, description="weight of the least-squares adversarial term; see gan")
    loss_feature: float = Field(2.0, ge=0, le=1000, description="weight of the distance of the discriminators' feature maps; see gan")

    # ---- optimisation
    steps: int = Field(1_500_000, ge=1, le=100_000_000, description="batches of batch_size mixtures; all schedules count them")
    batch_size: int = Field(2, ge=1, le=4096, description="mixtures of a step, in one forward pass")
    accumulation: int = Field(32, ge=1, le=4096, description="steps per update of the weights, whose gradients are added")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: matrices by Muon, all else by AdamW, both at the rate lr")
    lr: float = Field(2e-4, gt=0, le=1, description="highest learning rate")
    lr_min: float = Field(1e-5, ge=0, le=1, description="learning rate at the end of the cosine")
    warmup_steps: int = Field(5_000, ge=0, le=10_000_000, description="steps of linear warm-up")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's gradient")
    adam_beta2: float = Field(0.999, ge=0.5, lt=1, description="decay of AdamW's squared gradient")
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's weight decay, not on biases and norms")
    clip_norm: float = Field(5.0, gt=0, le=1e6, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights that are evaluated; 0: none")
    enroll_dropout: float = Field(0.1, ge=0, le=1, description="share of training enrolments replaced by silence")
    precision: Literal["bf16", "float32"] = Field("bf16", description="arithmetic of the model; losses are always float32")
    checkpointing: bool = Field(True, description="recompute activations in the backward pass: less memory, more time")


class Params(Learning):
    """All parameters of a run, its evaluation and its report; flat, so that ``papermill -p name value`` reaches each."""

    # ---- what, where; none of it changes the weights
    preset: str = Field("full", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the preset: 1 to 40 letters, digits, _ and -")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train; auto takes a GPU if there is one")
    threads: int = Field(0, ge=0, le=256, description="CPU threads for the model; 0 leaves torch's choice")
    workers: int = Field(4, ge=0, le=128, description="processes that make mixtures; 0 makes them in the main process")
    cache_mb: int = Field(0, ge=0, le=1_000_000, description="MB a process may keep of decoded speech, as many of noise and of rooms")
    max_minutes: float = Field(0.0, ge=0, le=100_000, description="minutes after which training stops, to be resumed; 0: no limit")
    checkpoint_every: int = Field(1_000, ge=1, le=10_000_000, description="steps between checkpoints")
    validate_every: int = Field(5_000, ge=1, le=10_000_000, description="steps between validations")
    valid_mixtures: int = Field(50, ge=1, le=100_000, description="mixtures of a validation")

    # ---- evaluation: the plan's protocol
    arm_seeds: int = Field(1, ge=1, le=100, description="trainings of each arm of a comparison, with seeds from seed on")
    arm_seeds_within: float = Field(0.0, ge=0, le=100, description="dB: arms whose interval ends further below 0 get one seed; 0: none")
    arms_together: int = Field(1, ge=1, le=64, description="trainings of a comparison at the same time, each a process, on one device")
    arm_minutes: float = Field(60.0, gt=0, le=100_000, description="minutes of training of each arm of 15_scaling, at the pace of a trial")
    arm_kinds: str = Field("", description="arms of 15_scaling: size, segment, batch, rate, cues, mixtures, with commas; empty: all")
    eval_list: str = Field("", description="test list, scenes that `hifitse scenes` wrote; empty: drawn as the parameters below say")
    eval_unseen: str = Field("", description="speech that no training hears, as corpus: arms of a comparison are also tested on it")
    eval_mixtures: int = Field(200, ge=4, le=100_000, description="mixtures of the test list")
    eval_seed: int = Field(42, ge=0, le=2**31 - 1, description="seed of the test list")
    eval_absent_share: float = Field(0.21, ge=0, lt=1, description="share of the test list without the target")
    eval_seconds: float = Field(4.0, ge=0.5, le=600, description="s: length of a test mixture")
    eval_partial: int = Field(20, ge=0, le=10_000, description="8 s mixtures with the target only from 2.0 to 5.5 s")
    eval_long: int = Field(20, ge=0, le=10_000, description="mixtures of 5 to 8 s")
    eval_turns: int = Field(0, ge=0, le=10_000, description="mixtures of 8 to 12 s in which the target and an interferer take turns")
    eval_enroll: Literal["drawn", "eq", "noisy", "reverberant", "band", "codec", "pitch"] = Field(
        "drawn", description="enrolments of the evaluation: as the curriculum's last phase draws them, or all of them disturbed in one way"
    )
    bench_rounds: int = Field(5, ge=1, le=1000, description="rounds in which times are measured in turns")
    bench_seconds: list[float] = Field([1.0, 4.0, 16.0, 60.0], description="s, 0.1 to 600: lengths of 11_performance's forward passes")
    bench_full_seconds: list[float] = Field([4.0], description="s, 0.1 to 600: the same for the model of preset full; none: not measured")
    eval_pesq: bool = Field(True, description="measure PESQ (16 kHz wide band) and STOI, which are slow")

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value not in RETIRED.get(name, ())}

    @model_validator(mode="after")
    def _ranges(self) -> "Params":
        terms = ["weighting", *(name[5:] for name, value in self if name.startswith("loss_") and isinstance(value, float) and value)]
        lowest = [("sir_min_db", "sir_max_db"), ("speed_min", "speed_max"), ("level_min_db", "level_max_db"), ("lr_min", "lr")]
        self._refuse(
            *((getattr(self, low) > getattr(self, high), low, f"at most {high} = {getattr(self, high)}") for low, high in lowest),
            *((abs(100 * getattr(self, name) - round(100 * getattr(self, name))) > 1e-6, name, "multiples of 0.01")
              for name in ("speed_min", "speed_max")),
            (self.enrollments_min > self.enrollments, "enrollments_min", f"at most enrollments = {self.enrollments}"),
            *((getattr(self, name) and not self.speaker_blocks, name, "0 where speaker_blocks is 0: no voice is embedded there")
              for name in ("loss_speaker", "loss_identity")),
            (self.loss_verifier and not self.verifier, "loss_verifier", "0 where verifier is False: there is none to ask"),
            *((name not in terms, "loss_late", f"some of {', '.join(terms)}") for name in self.late),
            (self.valid_share + self.test_share > 0.8, "test_share", f"at most 0.8 - valid_share = {0.8 - self.valid_share:g}"),
        )  # fmt: skip
        for name, (low, high) in (PHASED | BENCHED).items():
            if wrong := [value for value in getattr(self, name) if not low <= value <= high]:
                raise ValueError(f"{name} holds {wrong[0]}, expected values from {low} to {high}")
        return self

    @model_validator(mode="after")
    def _phases(self) -> "Params":
        starts = self.phase_starts
        if not starts or starts[0] != 0 or sorted(set(starts)) != starts or starts[-1] >= 1:
            raise ValueError(f"phase_starts is {starts}, expected rising shares below 1 of which the first is 0")
        for name in PHASED:
            if len(getattr(self, name)) not in (1, len(starts)):
                rule = f"1 or one for each of the {len(starts)} phases in phase_starts"
                raise ValueError(f"{name} has {len(getattr(self, name))} values, expected {rule}")
        for low, high in (("interferers_min", "interferers_max"), ("snr_min_db", "snr_max_db")):
            for phase in range(len(starts)):
                if self.at_phase(low, phase) > self.at_phase(high, phase):
                    raise ValueError(f"{low} is {getattr(self, low)}, expected at most {high} = {getattr(self, high)} in each phase")
        return self

    def at_phase(self, name: str, phase: int) -> float:
        """Value of a curriculum parameter in phase number ``phase`` (from 0)."""
        values = getattr(self, name)
        return values[phase] if len(values) > 1 else values[0]

    @property
    def late(self) -> list[str]:
        """Names in ``loss_late``."""
        return [name.strip() for name in self.loss_late.split(",") if name.strip()]

    @property
    def extractor(self) -> ExtractorConfig:
        """The part that decides the extractor's shape."""
        return ExtractorConfig(**{name: getattr(self, name) for name in ExtractorConfig.model_fields})

    @property
    def run_id(self) -> str:
        """16 hexadecimal digits that name the training run: equal for equal training parameters, whatever the machine or the evaluation.

        Only what differs from the defaults counts, so that a parameter added later, whose default changes nothing, leaves old runs theirs.
        """
        values = {name: value for name, value in self.changed().items() if name not in NOT_TRAINING}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """Parameters that differ from the defaults, by name."""
        fields = type(self).model_fields
        return {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}


NOT_TRAINING = frozenset(Params.model_fields) - frozenset(Learning.model_fields) | {"shifts"}
"""Parameters that do not change the trained weights, so that runs are shared between machines and evaluations."""
NOT_EVALUATION = frozenset(n for n in Params.model_fields if n not in Data.model_fields and not n.startswith("eval_"))
"""Parameters that change a row of an evaluation only through the weights, if at all."""


def describe(name: str = "") -> str:
    """Every parameter, or one, as text: name, default, what is allowed, unit and meaning. Raises ParameterError: none has that name."""
    if name and name not in Params.model_fields:
        Params(**{name: ""})  # says which name is near
    lines = []
    for each, field in Params.model_fields.items():
        if name in ("", each):
            low, high = (PHASED | BENCHED).get(each, (None, None))
            range_ = allowed(field) + (f", each from {low} to {high}" if high is not None else "")
            lines.append(f"{each} = {json.dumps(field.default)}  ({range_})\n    {field.description}")
    return "\n".join(lines)


def resolve(preset: str | None = None, overlay: str | None = None, *, arms: bool = False, **values: Any) -> Params:
    """Parameters of a preset file, changed by an overlay file, changed by explicit values.

    A comparison trains many variants, and a preset made for one training may be too long for each: ``arms`` lays the file
    ``<preset>-arms`` over the preset, where there is one. ``demo-best`` is ``demo`` with ``demo-best`` laid over it.
    Whoever gives ``steps`` gets them: the preset's ``max_minutes`` does not hold then.

    Args:
        preset: name of a file in ``params/`` without ``.yaml``; ``None`` takes ``values["preset"]`` or ``"full"``.
        overlay: name of a second file in ``params/``, or ``None``.

    Raises ParameterError: unknown name, wrong type, value out of range, or no such preset file.
    """
    preset = values.get("preset", "full") if preset is None else preset
    known = preset_values(preset, arms)
    if "steps" in values and "max_minutes" not in values:
        known["max_minutes"] = 0.0
    return Params(**(known | (load_yaml(overlay, "overlay") if overlay is not None else {}) | values))


def from_notebook(namespace: dict[str, Any], *, arms: bool = False) -> Params:
    """Parameters of a notebook, whose ``globals()`` are given, from its parameters cell and the cell that papermill injected after it.

    Both begin with the comment ``# Parameters``, papermill's own mark; the notebook's own goes on in that line
    (``# Parameters: ...``), so that the two can be told apart. Every name that such a cell assigns must be a
    parameter, ``preset`` or ``overlay``. The values are those that stand in the namespace now, so the call can be
    repeated in JupyterLab: of an edited cell that was run again only the newest text counts, known by its first line.
    Arguments and errors as :func:`resolve`.
    """
    names: dict[str, None] = {}
    for cell in _parameter_cells(namespace.get("In", [])):
        for node in cell.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names |= {part.id: None for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)}
    if not names:
        raise ParameterError("the notebook has run no cell that begins with '# Parameters', expected one before this call")
    return resolve(arms=arms, **{name: namespace[name] for name in names if name in namespace})


def _parameter_cells(history: list[str]) -> list[ast.Module]:
    """The parameter cells run so far, of each first line the newest; a bare ``# Parameters`` may stand for several cells."""
    cells: dict[Any, ast.Module] = {}
    for index, text in enumerate(history):
        first = text.strip().partition("\n")[0].strip().lower()
        if not first.startswith("# parameters"):
            continue
        # A cell with an error of syntax is in the history too, but never ran.
        with contextlib.suppress(SyntaxError):
            cells[index if first == "# parameters" else first] = ast.parse(text)
    return list(cells.values())
