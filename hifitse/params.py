"""Every parameter of a run: name, type, unit, range, default. :class:`hifitse.config.Data` determines the mixtures, :class:`Learning`
the trained weights, the rest of :class:`Params` neither. A new parameter's class therefore decides which results get a new name.

The defaults are the plan's baseline ("full"). A preset in ``params/`` is a flat YAML file of the keys it changes.
``resolve`` builds a :class:`Params` from a preset and explicit values. ``from_notebook`` does the same from the
parameter cells of a notebook, and refuses unknown names, about which papermill only warns.
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
"""Parameters that hold lengths to time, with the shortest and longest allowed length in s."""
RETIRED: dict[str, Sequence[Any]] = {
    "remix": (1,), "bench_compile": (True, False), "valid_like": ("",), "bench_utterances": range(20, 10**8 + 1),
    "bench_long_seconds": ([30.0, 300.0, 1800.0], [30.0, 120.0, 600.0, 1800.0], [2.0]),
}  # fmt: skip
"""Removed parameters with the values to ignore in files of older runs: the default, or all values if none changed a training."""


class Learning(Data):
    """Parameters that change the trained weights, and rows of an evaluation only through the weights."""

    # ---- mixtures and augmentation, in training only
    seed: int = Field(0, ge=0, le=2**31 - 1, description="random seed of weights, mixtures and dropout")
    both_talkers: bool = Field(False, description="use each training mixture twice, the second time with its loudest interferer as target")
    lone_prob: float = Field(0.0, ge=0, le=1, description="share of training mixtures without interferers")
    acoustics_prob: float = Field(0.0, ge=0, le=1, description="share of training talkers and enrolments altered as if recorded elsewhere")
    enroll_seconds_min: float = Field(0.0, ge=0, le=60, description="s: shortest enrolment of a training step; 0: always enroll_seconds")
    specaug: float = Field(0.0, ge=0, le=0.5, description="SpecAugment: largest share of frequencies or frames per mask; 0: off")
    specaug_masks: int = Field(2, ge=1, le=10, description="SpecAugment: masks along frequency, and as many along time, per mixture")
    band_limit_prob: float = Field(0.0, ge=0, le=1, description="share of mixtures and enrolments band-limited as at a lower rate")
    enroll_augment_prob: float = Field(0.0, ge=0, le=1, description="share of enrolments with an equaliser, band limit, codec or device")
    pitch_prob: float = Field(0.0, ge=0, le=1, description="share of training enrolments at a lower or higher pitch and speed")
    enrollments_min: int = Field(0, ge=0, le=10, description="fewest enrolments of a training step, up to enrollments; 0: always all")

    # ---- losses: a weight of 0 disables a term
    loss_si_sdr: float = Field(1.0, ge=0, le=1000, description="weight of the negative SI-SDR in dB")
    loss_snr: float = Field(0.0, ge=0, le=1000, description="weight of the negative SNR in dB, which unlike SI-SDR fixes the level")
    loss_phase: float = Field(0.5, ge=0, le=1000, description="weight of the phase-sensitive spectral loss")
    loss_amplitude: float = Field(1.0, ge=0, le=1000, description="weight of the amplitude spectral loss")
    loss_absent: float = Field(1.0, ge=0, le=1000, description="weight of the output level in dB if the target is absent")
    loss_multires: float = Field(0.0, ge=0, le=1000, description="weight of the negative SI-SDR in dB of spectrograms at 3 resolutions")
    loss_speaker: float = Field(0.0, ge=0, le=1000, description="weight of the contrastive loss between estimates and enrolments")
    loss_identity: float = Field(0.0, ge=0, le=1000, description="weight of the contrastive loss between enrolments and clean targets")
    loss_verifier: float = Field(0.0, ge=0, le=1000, description="weight of 1 - cosine of estimate and clean target under the verifier")
    loss_late: str = Field("", description="loss terms for the second half of training only, such as multires; weighting: learned weights")
    speaker_temperature: float = Field(0.1, gt=0, le=10, description="temperature of loss_speaker and loss_identity, on cosines")
    loss_weighting: Literal["fixed", "uncertainty"] = Field("fixed", description="uncertainty: weights are learned (Kendall et al. 2018)")
    loss_absent_kind: Literal["relative", "floor"] = Field("relative", description="level relative to the mixture, or dBFS, flat below -30")

    # ---- fine-tuning of a finished run, with or without discriminators
    start_from: str = Field("", pattern=r"^([0-9a-f]{16})?$", description="run ID (16 hex digits) whose averaged weights to start from")
    freeze_norms: bool = Field(False, description="do not train the gains and offsets of layer norms")
    gan: Literal["none", "hifigan", "stft"] = Field("none", description="discriminators: those of HiFi-GAN, or on complex spectra")
    disc_channels: int = Field(32, ge=4, le=256, description="width of the discriminators; 32 as in their papers")
    disc_lr: float = Field(1e-5, gt=0, le=1, description="learning rate of the discriminators")
    gan_seconds: float = Field(1.0, ge=0.1, le=60, description="s: length of the random excerpt of a segment that the discriminators hear")
    gan_warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps, at the start, in which only the discriminators learn")
    gan_ramp: float = Field(0.2, ge=0, le=1, description="share of the steps, after the warm-up, over which the adversarial weights rise")
    gan_patience: int = Field(50, ge=1, le=1_000_000, description="consecutive updates that must show a collapse before training stops")
    loss_adversarial: float = Field(1.0, ge=0, le=1000, description="weight of the least-squares adversarial loss; see gan")
    loss_feature: float = Field(2.0, ge=0, le=1000, description="weight of the feature matching loss; see gan")

    # ---- optimisation
    steps: int = Field(1_500_000, ge=1, le=100_000_000, description="training steps, one batch each; all schedules count steps")
    batch_size: int = Field(2, ge=1, le=4096, description="mixtures per step, in one forward pass")
    accumulation: int = Field(32, ge=1, le=4096, description="gradient accumulation: steps per weight update")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: Muon for matrices, AdamW for all else, both at the rate lr")
    lr: float = Field(2e-4, gt=0, le=1, description="peak learning rate")
    lr_min: float = Field(1e-5, ge=0, le=1, description="learning rate at the end of the cosine schedule")
    warmup_steps: int = Field(5_000, ge=0, le=10_000_000, description="steps of linear learning rate warm-up")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the mean gradient")
    adam_beta2: float = Field(0.999, ge=0.5, lt=1, description="AdamW: decay of the mean squared gradient")
    weight_decay: float = Field(0.01, ge=0, le=10, description="weight decay, not applied to biases and norms")
    clip_norm: float = Field(5.0, gt=0, le=1e6, description="gradient clipping: largest norm")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights (EMA), which are evaluated; 0: no averaging")
    enroll_dropout: float = Field(0.1, ge=0, le=1, description="share of training items with silence as enrolment")
    precision: Literal["bf16", "float32"] = Field("bf16", description="number format of the model; losses always use float32")
    checkpointing: bool = Field(True, description="recompute activations in the backward pass: less memory, more time")


class Params(Learning):
    """All parameters of a run, its evaluation and its report. They are flat, so ``papermill -p name value`` can set each of them."""

    # ---- execution, without effect on the weights
    preset: str = Field("full", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the preset: 1 to 40 letters, digits, _ and -")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="device to train on; auto takes a GPU if there is one")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of torch; 0: chosen automatically")
    workers: int = Field(4, ge=0, le=128, description="processes that make mixtures; 0: the main process makes them")
    cache_mb: int = Field(0, ge=0, le=1_000_000, description="MB of decoded speech kept per process, and as many of noise and of rooms")
    max_minutes: float = Field(0.0, ge=0, le=100_000, description="minutes after which training stops and can be resumed; 0: no limit")
    checkpoint_every: int = Field(1_000, ge=1, le=10_000_000, description="steps between checkpoints")
    validate_every: int = Field(5_000, ge=1, le=10_000_000, description="steps between validations")
    valid_mixtures: int = Field(50, ge=1, le=100_000, description="mixtures in the validation set")

    # ---- evaluation: the plan's protocol
    skip_arms: list[str] = Field([], description="names of arms that comparisons leave out")
    arm_seeds: int = Field(1, ge=1, le=100, description="training runs per arm of a comparison, with consecutive seeds from seed on")
    arm_seeds_within: float = Field(0.0, ge=0, le=100, description="dB: only one seed for arms whose interval ends further below 0; 0: off")
    arms_together: int = Field(1, ge=1, le=64, description="runs of a comparison that train in parallel on one device, one process each")
    arm_minutes: float = Field(60.0, gt=0, le=100_000, description="minutes of training per arm of 15_scaling, at a speed measured before")
    arm_kinds: str = Field("", description="arms of 15_scaling, with commas: size, segment, batch, rate, cues, mixtures; empty: all")
    eval_list: str = Field("", description="test list written by `hifitse scenes`; empty: drawn from the parameters below")
    eval_unseen: str = Field("", description="speech that no training uses, as for corpus; comparisons also test their arms on it")
    eval_rooms: str = Field("", description="room responses that no training uses, all used in tests; empty: the test share of rooms")
    eval_mixtures: int = Field(200, ge=4, le=100_000, description="mixtures in the test list")
    eval_seed: int = Field(42, ge=0, le=2**31 - 1, description="seed of the test list")
    eval_absent_share: float = Field(0.21, ge=0, lt=1, description="share of the test list without the target")
    eval_seconds: float = Field(4.0, ge=0.5, le=600, description="s: length of a test mixture")
    eval_partial: int = Field(20, ge=0, le=10_000, description="test mixtures of 8 s with the target from 2.0 to 5.5 s only")
    eval_long: int = Field(20, ge=0, le=10_000, description="test mixtures of 5 to 8 s")
    eval_turns: int = Field(0, ge=0, le=10_000, description="test mixtures of 8 to 12 s in which target and interferers take turns")
    eval_enroll: Literal["drawn", "eq", "noisy", "reverberant", "band", "codec", "pitch"] = Field(
        "drawn", description="enrolments of the evaluation: as in the last phase of the curriculum, or all disturbed in one way"
    )
    bench_rounds: int = Field(5, ge=1, le=1000, description="rounds of timing; each round times all variants in turn")
    bench_seconds: list[float] = Field([1.0, 4.0, 16.0, 60.0], description="s, 0.1 to 600: forward pass lengths timed in 11_performance")
    bench_full_seconds: list[float] = Field([4.0], description="s, 0.1 to 600: the same for the model of preset full; empty: not timed")
    eval_pesq: bool = Field(True, description="compute PESQ (16 kHz wideband) and STOI, which are slow")

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value not in RETIRED.get(name, ())}

    @model_validator(mode="after")
    def _ranges(self) -> "Params":
        scheduled = ("loss_adversarial", "loss_feature")  # see gan_warmup and gan_ramp
        weights = (name for name, value in self if name.startswith("loss_") and isinstance(value, float) and value)
        terms = ["weighting", *(name[5:] for name in weights if name not in scheduled)]
        lowest = [("sir_min_db", "sir_max_db"), ("speed_min", "speed_max"), ("level_min_db", "level_max_db"), ("lr_min", "lr")]
        lowest += [("enrollments_min", "enrollments"), ("enroll_seconds_min", "enroll_seconds")]
        self._refuse(
            *((getattr(self, low) > getattr(self, high), low, f"at most {high} = {getattr(self, high)}") for low, high in lowest),
            *((abs(100 * getattr(self, name) - round(100 * getattr(self, name))) > 1e-6, name, "multiples of 0.01")
              for name in ("speed_min", "speed_max")),
            *((getattr(self, name) and not self.speaker_blocks, name, "0 where speaker_blocks is 0: no voice is embedded there")
              for name in ("loss_speaker", "loss_identity")),
            (self.loss_verifier and not self.verifier, "loss_verifier", "0 where verifier is False"),
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
        """Return the value of a curriculum parameter in a phase, counted from 0."""
        values = getattr(self, name)
        return values[phase] if len(values) > 1 else values[0]

    @property
    def late(self) -> list[str]:
        """Names in ``loss_late``."""
        return [name.strip() for name in self.loss_late.split(",") if name.strip()]

    @property
    def extractor(self) -> ExtractorConfig:
        """The parameters of the extractor's architecture."""
        return ExtractorConfig(**{name: getattr(self, name) for name in ExtractorConfig.model_fields})

    @property
    def run_id(self) -> str:
        """16 hexadecimal digits that identify the training run. They depend on the training parameters, not on machine or evaluation.

        Only values that differ from the defaults count, so old runs keep their ID when a parameter with a neutral default is added.
        """
        values = {name: value for name, value in self.changed().items() if name not in NOT_TRAINING}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """Return the parameters that differ from the defaults, by name."""
        fields = type(self).model_fields
        return {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}


NOT_TRAINING = frozenset(Params.model_fields) - frozenset(Learning.model_fields) | {"shifts"}
"""Parameters that do not change the trained weights, so machines and evaluations can share runs."""
NOT_EVALUATION = frozenset(n for n in Params.model_fields if n not in Data.model_fields and not n.startswith("eval_"))
"""Parameters that change the rows of an evaluation only through the weights, if at all."""


def describe(name: str = "") -> str:
    """Describe one parameter or all: name, default, type and range, unit and meaning. Raises ParameterError: unknown name."""
    if name and name not in Params.model_fields:
        Params(**{name: ""})  # raises an error that suggests the nearest name
    lines = []
    for each, field in Params.model_fields.items():
        if name in ("", each):
            low, high = (PHASED | BENCHED).get(each, (None, None))
            range_ = allowed(field) + (f", each from {low} to {high}" if high is not None else "")
            lines.append(f"{each} = {json.dumps(field.default)}  ({range_})\n    {field.description}")
    return "\n".join(lines)


def resolve(preset: str | None = None, overlay: str | None = None, *, arms: bool = False, **values: Any) -> Params:
    """Build parameters from a preset, changed by an overlay, changed by explicit values.

    A comparison trains many variants, and a preset made for a single training may be too long for each. With ``arms``, the file
    ``<preset>-arms`` changes the preset, if it exists. ``demo-best`` is the preset ``demo``, changed by the file ``demo-best``.
    If ``steps`` is given without ``max_minutes``, the preset's time limit is dropped.

    Args:
        preset: name of a file in ``params/`` without ``.yaml``; ``None``: ``values["preset"]`` or ``"full"``.
        overlay: name of another file in ``params/``, or ``None``.

    Raises ParameterError: unknown name, wrong type, value out of range, or no such preset file.
    """
    preset = values.get("preset", "full") if preset is None else preset
    known = preset_values(preset, arms)
    if "steps" in values and "max_minutes" not in values:
        known["max_minutes"] = 0.0
    return Params(**(known | (load_yaml(overlay, "overlay") if overlay is not None else {}) | values))


def from_notebook(namespace: dict[str, Any], *, arms: bool = False) -> Params:
    """Build parameters from the ``globals()`` of a notebook: from its parameters cell and the cell that papermill injects after it.

    Both begin with the comment ``# Parameters``, which is papermill's mark. To tell them apart, the notebook's own cell
    continues in that line (``# Parameters: ...``). Every name that such a cell assigns must be a parameter,
    ``preset`` or ``overlay``. Values are read from the namespace as it is now, so the call can be repeated in
    JupyterLab: if a cell was edited and run again, as seen by its first line, only its newest text counts.
    Other arguments and errors are those of :func:`resolve`.
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
    """Return the parameter cells run so far, the newest for each first line. Cells that begin with a bare ``# Parameters`` are all kept."""
    cells: dict[Any, ast.Module] = {}
    for index, text in enumerate(history):
        first = text.strip().partition("\n")[0].strip().lower()
        if not first.startswith("# parameters"):
            continue
        # The history also holds cells with a syntax error, which never ran.
        with contextlib.suppress(SyntaxError):
            cells[index if first == "# parameters" else first] = ast.parse(text)
    return list(cells.values())
