"""Test parameters: presets, one-sentence errors, run ids, and a notebook's cells."""

import json
import math
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator
from pydantic import ValidationError

from hifitse import presets
from hifitse.params import NOT_EVALUATION, NOT_TRAINING, RETIRED, ParameterError, Params, from_notebook, resolve
from hifitse.training.validation import RIGHT

PRESETS = sorted(path.stem for path in presets.PRESET_DIR.glob("*.yaml"))
FIELDS = Params.model_fields


def refused(**values: object) -> str:
    """Return the sentence with which ``resolve`` refuses ``values``; check that it is one line."""
    with pytest.raises(ParameterError) as caught:
        resolve(**values)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@pytest.mark.parametrize("name", PRESETS)
def test_every_file_in_params_resolves(name: str) -> None:
    written = presets.load_yaml(name)
    if "preset" in written:
        assert written["preset"] == name
        assert resolve(name).preset == name
    else:
        below = name.partition("-")[0] if "-" in name else "smoke"  # the preset under it
        params = resolve(below, overlay=name)
        assert params.preset == below
        assert all(getattr(params, key) == value for key, value in written.items())


def test_a_preset_named_after_another_is_laid_over_it() -> None:
    for below in ("smoke", "demo", "full"):
        for arms in (False, True):
            best, laid = (resolve(*name, arms=arms) for name in ((f"{below}-best",), (below, f"{below}-best")))
            assert best.preset == f"{below}-best" and best.run_id == laid.run_id != resolve(below, arms=arms).run_id
            assert best.model_copy(update={"preset": below}) == laid
    assert resolve("demo-arms").run_id == resolve("demo", arms=True).run_id


def test_full_is_the_plan() -> None:
    full = resolve()
    assert full == resolve("full") == Params()
    assert (full.steps, full.batch_size, full.accumulation, full.n_fft, full.features, full.blocks) == (1_500_000, 2, 32, 2048, 128, 6)
    assert (full.steps // full.accumulation, full.steps * full.batch_size) == (46_875, 3_000_000), "updates, mixtures"
    best = resolve("full-best")
    assert (best.steps // best.accumulation, best.steps * best.batch_size) == (46_875, 3_000_000)
    assert full.bands_fine + full.bands_medium + full.bands_coarse == 53
    assert math.isclose(full.phase_starts[1] * full.steps, 200_000)


def test_values_beat_overlay_beats_preset() -> None:
    with pytest.raises(ValidationError):
        resolve("smoke").steps = 3
    assert resolve("smoke").corpus == "synthetic"
    assert resolve("smoke", overlay="real").corpus == "$HIFITSE_DATA/speech"
    assert resolve("smoke", overlay="real", corpus="voices").corpus == "voices"
    assert resolve(preset="smoke", steps=7).steps == 7


@pytest.mark.parametrize("preset", ["", "../params/smoke", ["smoke"]])
def test_unknown_preset_names_the_files(preset: object) -> None:
    message = refused(preset=preset)
    assert "'preset'" in message and repr(preset) in message
    assert all(name in message for name in PRESETS)


@pytest.mark.parametrize(("content", "expected"), [
    (b"steps: 5\n\tlr: 1\n", "line 2 of mine.yaml"),
    (b"steps: 5\nlr: 0.1\nsteps: 6\n", "line 3 of mine.yaml"),
    (b"- steps\n- 5\n", "flat mapping"),
    (b"", "flat mapping"),
    (b"steps: 5 \xff\n", "utf-8"),
    (b"model:\n  steps: 5\n", "unknown parameter 'model'"),
])  # fmt: skip
def test_bad_yaml_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path, content: bytes, expected: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    monkeypatch.setattr(presets, "PRESET_DIR", tmp_path)
    assert expected in refused(preset="mine")


def test_a_number_that_yaml_takes_for_text_or_not_for_a_list_is_a_number(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """``papermill -p absent_prob 0.2`` can only give one number."""
    assert resolve("smoke", absent_prob=0.2).absent_prob == [0.2]
    (tmp_path / "mine.yaml").write_text("lr: 3e-4\nphase_starts: [0, 5e-1]\n", encoding="utf-8")
    monkeypatch.setattr(presets, "PRESET_DIR", tmp_path)
    assert presets.load_yaml("mine")["lr"] == "3e-4"  # as PyYAML reads it
    params = resolve("mine")
    assert params.lr == 0.0003 and params.phase_starts == [0.0, 0.5]


@pytest.mark.parametrize(("typo", "meant"), [("stpes", "steps"), ("LR", "lr"), ("n_ftt", "n_fft"), ("batchsize", "batch_size")])
def test_unknown_name_gets_a_suggestion(typo: str, meant: str) -> None:
    message = refused(preset="smoke", **{typo: 20})
    assert repr(typo) in message and "20" in message and repr(meant) in message
    assert "`hifitse params`" in refused(preset="smoke", zzzzqqq=1), "where there is no like"


@pytest.mark.parametrize(("name", "value", "allowed"), [
    ("steps", 0, ["1", "100000000"]),
    ("steps", True, ["whole number"]),
    ("lr", 0, ["above 0", "up to 1"]),
    ("clip_norm", math.inf, ["a number"]),
    ("ema_decay", 1.0, ["from 0", "but not 1"]),
    ("precision", "fp16", ["'bf16'", "'float32'"]),
    ("device", None, ["'auto'", "'cpu'", "'cuda'", "'mps'"]),
    ("checkpointing", 2, ["true or false"]),
    ("corpus", "", ["not empty"]),
    ("absent_prob", True, ["list of numbers"]),
    ("interferers_max", [1.5, 2], ["list of whole numbers"]),
])  # fmt: skip
def test_bad_value_names_parameter_value_and_what_is_allowed(name: str, value: object, allowed: list[str]) -> None:
    message = refused(preset="smoke", **{name: value})
    assert repr(name) in message
    if not isinstance(value, list):
        assert repr(value) in message
    assert all(part in message for part in allowed)
    assert FIELDS[name].description in message


@pytest.mark.parametrize(("values", "parts"), [
    ({"sir_min_db": 6, "sir_max_db": 5}, ["sir_min_db is 6", "sir_max_db = 5"]),
    ({"speed_min": 0.905}, ["speed_min is 0.905", "0.01"]),
    ({"lr": 1e-4, "lr_min": 2e-4}, ["lr_min", "lr = 0.0001"]),
    ({"n_fft": 512, "win_length": 960}, ["win_length is 960", "n_fft = 512"]),
    ({"features": 16, "heads": 3}, ["heads is 3", "features = 16"]),
    ({"valid_share": 0.45, "test_share": 0.45}, ["test_share is 0.45", "0.35"]),
    ({"absent_prob": [0, 0.1, 0.2]}, ["absent_prob has 3 values", "1 or one for each of the 2 phases"]),
    ({"absent_prob": [0, 1.2]}, ["absent_prob holds 1.2", "from 0 to 1"]),
    ({"interferers_min": [3], "interferers_max": [1]}, ["interferers_min is [3]", "interferers_max = [1]"]),
    ({"snr_min_db": [0, 20], "snr_max_db": [15]}, ["snr_min_db", "snr_max_db"]),
    ({"phase_starts": [0.1, 0.5]}, ["phase_starts is [0.1, 0.5]", "the first is 0"]),
    ({"phase_starts": [0, 0.5, 0.5]}, ["rising"]),
    ({"speaker_blocks": 0, "adaln": True}, ["adaln is True, expected False where speaker_blocks is 0"]),
    ({"speaker_blocks": 0, "enroll_levels": True}, ["enroll_levels is True, expected False where speaker_blocks is 0"]),
    ({"speaker_blocks": 0, "loss_speaker": 0.1}, ["loss_speaker is 0.1, expected 0 where speaker_blocks is 0"]),
    ({"loss_verifier": 1.0}, ["loss_verifier is 1.0, expected 0 where verifier is False"]),
    ({"usef": "none", "reinject": "none", "enroll_scales": 3}, ["enroll_scales is 3, expected 1 where usef and reinject are 'none'"]),
    ({"usef": "none", "reinject": "none", "enroll_levels": True}, ["enroll_levels is True", "where usef and reinject are 'none'"]),
    ({"enroll_scales": 5}, ["'enroll_scales' is 5", "from 1 up to 4"]),
    ({"mixture_blocks": 2, "blocks": 2}, ["mixture_blocks is 2, expected fewer than blocks = 2"]),
    ({"loss_late": "multires"}, ["loss_late is multires, expected some of weighting, si_sdr"]),
    ({"loss_late": "adversarial"}, ["loss_late is adversarial, expected some of"]),
    ({"start_from": "../x"}, ["'start_from' is '../x', expected text "]),
    ({"band_limit_prob": 1.5}, ["band_limit_prob"]),
    ({"enroll_seconds_min": 2}, ["enroll_seconds_min is 2.0, expected at most enroll_seconds = 1.0"]),
])  # fmt: skip
def test_values_that_contradict_each_other_or_do_nothing(values: dict, parts: list[str]) -> None:
    message = refused(preset="smoke", **values)
    assert all(part in message for part in parts), message


def test_a_retired_parameter_is_dropped_where_it_has_its_default() -> None:
    """It occurs in the ``params.json`` of finished runs and of the committed model."""
    for name, value in ((name, value) for name, values in RETIRED.items() for value in values[:3]):
        assert Params(**{name: value}) == Params.model_validate_json(json.dumps({name: value})) == Params()
        assert f"unknown parameter {name!r}" in refused(preset="smoke", **{name: 7})


def test_what_changes_the_training_alone_changes_its_name_and_no_row_of_an_evaluation() -> None:
    training = {"lone_prob", "acoustics_prob", "enroll_seconds_min", "lr", "band_limit_prob", "seed"}
    training |= {"adam_beta1", "loss_absent_kind"}
    both = {"corpus", "same_source_prob", "train_only", "sir_min_db", "reverb_prob", "features", "verifier", *RIGHT}
    assert training <= NOT_EVALUATION - NOT_TRAINING and not both & (NOT_EVALUATION | NOT_TRAINING)
    assert {"workers", "max_minutes"} <= NOT_EVALUATION & NOT_TRAINING and "eval_long" in NOT_TRAINING - NOT_EVALUATION


# Anything that a YAML file, a papermill option or a cell may hold.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400)
@given(name=st.sampled_from(sorted(FIELDS)), value=ANYTHING)
def test_any_value_is_taken_in_its_type_or_refused_in_one_line(name: str, value: object) -> None:
    try:
        params = resolve(**({"preset": "smoke"} | {name: value}))
    except ParameterError as error:
        assert "\n" not in str(error) and len(str(error)) < 500 and name in str(error)
        return
    kind = FIELDS[name].annotation
    taken = getattr(params, name)
    if get_origin(kind) is Literal:
        assert taken in get_args(kind)
    elif get_origin(kind) is list:
        assert all(type(item) is get_args(kind)[0] for item in taken)
    else:
        assert type(taken) is kind


def test_the_run_is_named_by_what_changes_the_training_and_differs_from_the_defaults() -> None:
    """Thus a parameter that is added later with a neutral default does not orphan a run of weeks."""
    smoke = resolve("smoke")
    values = {"lr": 2e-3, "seed": 1, "steps": 5, "corpus": "voices", "features": 24, "absent_prob": [0, 0.3], "precision": "bf16"}
    assert len({smoke.run_id, *(resolve("smoke", **{name: value}).run_id for name, value in values.items())}) == 8
    assert "specaug" not in smoke.changed() and smoke.changed()["steps"] == smoke.steps
    assert resolve("smoke", specaug=0.0).run_id == smoke.run_id != resolve("smoke", specaug=0.1).run_id
    assert Params().changed() == {} and Params().run_id == "44136fa355b3678a"


def test_arms_of_a_comparison_are_shorter_where_the_preset_says_so() -> None:
    alone, arm = resolve("demo"), resolve("demo", arms=True)
    assert arm.preset == "demo" and arm.steps < alone.steps and arm.extractor == alone.extractor
    assert resolve("demo", arms=True, steps=9).steps == 9  # an explicit value wins
    limits = [resolve("demo", arms=True, **given).max_minutes for given in ({}, {"steps": 9}, {"steps": 9, "max_minutes": 5})]
    assert limits == [30, 0, 5], "who gives the steps gets them"
    assert resolve("full", arms=True) == resolve("full")


OWN = "# Parameters: change them here\npreset = 'smoke'\nsteps = 9\n"


def notebook(*cells: str, **later: object) -> dict:
    """Return the namespace of a notebook that ran ``cells`` and assigned ``later`` after them."""
    namespace: dict = {}
    for cell in cells:
        exec(cell, namespace)
    return namespace | {"In": ["", "import os", *cells, "params = from_notebook(globals())"]} | later


def test_a_notebook_takes_its_own_cell_and_over_it_what_papermill_adds() -> None:
    """papermill's own translator makes the injected cell that ``from_notebook`` looks for."""
    own = from_notebook(notebook(OWN, os="not a parameter", lr=3.0))
    assert (own.preset, own.steps) == ("smoke", 9)
    assert own.lr == resolve("smoke").lr  # a name that no parameters cell assigned
    values = {"steps": 20, "lr": 3e-4, "absent_prob": [0.0, 0.25], "checkpointing": False, "corpus": 'a "b"'}
    params = from_notebook(notebook(OWN, PythonTranslator.codify(values)))
    assert {name: getattr(params, name) for name in values} == values and params.preset == "smoke"


@pytest.mark.parametrize(("cell", "parts"), [
    ("stpes = 20", ["'stpes'", "20", "'steps'"]),
    ("steps = 'many'", ["'steps'", "'many'", "1 up to 100000000"]),
    ("steps = -1", ["'steps'", "-1", "1 up to 100000000"]),
    ("steps, stpes = 1, 2", ["'stpes'"]),
    ("stpes: int = 20", ["'stpes'"]),
])  # fmt: skip
def test_a_bad_added_cell_is_refused(cell: str, parts: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        from_notebook(notebook(OWN, f"# Parameters\n{cell}\n"))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts)


def test_an_edited_cell_run_again_replaces_its_older_text() -> None:
    """In JupyterLab a mistake is corrected in its cell, but the older text stays in the history and the name in the namespace."""
    wrong = OWN + "stpes = 20\nlr = 0.01\n"
    params = from_notebook(notebook(wrong, OWN))
    assert params.steps == 9 and params.lr == resolve("smoke").lr


@pytest.mark.parametrize("namespace", [{}, {"In": ["", "steps = 3"], "steps": 3}, {"In": ["# Parameters: none yet"]}])
def test_a_notebook_without_a_parameters_cell_is_refused(namespace: dict) -> None:
    with pytest.raises(ParameterError, match="# Parameters"):
        from_notebook(namespace)
