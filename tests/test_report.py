"""The report: verdicts, tables, players, the panel and metrics.json, on made-up rows and audio."""

import base64
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from hifitse import explore, listening, players, report, show, tables
from hifitse.data.mixing import Mixture
from hifitse.experiment import METRICS, PUBLISHED, Arm, summarise
from hifitse.metrics import Interval
from hifitse.model import Extractor
from hifitse.params import Params, resolve

SMOKE = resolve("smoke", device="cpu", interferers_max=[2])


def made_up_rows(gain: float = 4.0, wrong: float = -2.0, count: int = 50, seed: int = 0) -> list[dict]:
    """Rows as the evaluation makes them: every fifth without the target, gains spread around the given means."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        present = index % 5 != 0
        ratios = sorted(rng.uniform(-5, 5, size=1 + index % 2).tolist())
        values = {"si_sdr_mix_db": ratios[0], "si_sdri_db": gain + rng.normal(), "si_sdri_wrong_enroll_db": wrong + rng.normal()}
        values |= {"si_sdr_db": ratios[0] + values["si_sdri_db"], "si_sdri_zero_enroll_db": rng.normal()}
        values |= {"confused": bool(rng.random() < 0.1), "pesq": 1.2, "stoi": 0.5}
        absent = {"absent_level_db": -40.0, "absent_suppression_db": 12.0}
        names = [*values, *absent]
        row = {"list": "test", "index": index, "seed": 0, "present": present, "n_interferers": len(ratios), "sir_db": ratios[0]}
        row |= {"snr_db": float(rng.uniform(-5, 15)), "room": "hall", "pesq_error": None}
        rows.append(row | {name: (values if present else absent).get(name) for name in names})
    return rows


def made_up_arm(rows: list[dict] | None = None, params: Params = SMOKE, **run) -> Arm:
    given = {"step": 4, "seconds_per_step": 0.5, "finished": True, "device": "a made-up device", "history": [], "validation": []}
    model = Extractor(params.extractor).eval()
    trained = SimpleNamespace(params=params, extractor=lambda: model, **(given | run))
    return Arm("baseline", params, trained, rows or made_up_rows(), params)


def interval(mean: float, half: float = 0.5, n: int = 50) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


# ---- verdict


@pytest.mark.parametrize(
    ("right", "difference", "mark", "word"),
    [
        (interval(4), interval(6), "good", "Yes"),
        (interval(0.6), interval(6), "weak", "Barely"),
        (interval(4), interval(0.1), "weak", "cannot be shown"),
        (interval(0.6), interval(0.1), "weak", "hardly"),
        (interval(0.1), interval(6), "weak", "no better"),
        (interval(-3), interval(0.1), "bad", "worse"),
        (interval(0.1), interval(-0.1), "bad", "does not extract"),
        (interval(4, n=5), interval(6, n=5), "weak", "Too few"),
        (Interval(4, float("nan"), float("nan"), 1), interval(6), "weak", "Too few"),
    ],
)
def test_judgement_follows_the_intervals(right, difference, mark, word):
    assert show.judge(right, difference)[0] == mark
    assert word in show.judge(right, difference)[1]


def test_verdict_says_numbers_data_and_scale():
    text = show.verdict(made_up_arm()).data
    means = [np.mean([row[key] for row in made_up_rows() if row["present"]]) for key in ("si_sdri_db", "si_sdri_wrong_enroll_db")]
    for value in (*means, means[0] - means[1]):
        assert tables.number(value, 1, signed=True) + " dB" in text
    assert "synthetic" in text and "4 steps" in text and "a made-up device" in text and "40 test mixtures" in text


def test_verdict_of_recordings_does_not_say_synthetic_and_escapes_their_name():
    text = show.verdict(made_up_arm(params=SMOKE.model_copy(update={"corpus": "<script>alert(1)</script>"}))).data
    assert "synthetic" not in text and "<script>" not in text and "&lt;script&gt;" in text


def test_a_run_that_was_cut_says_so():
    assert f"4 steps of the {SMOKE.steps:,} asked for" in show.scale(made_up_arm(finished=False))


def test_gains_keep_seeds_apart():
    rows = made_up_rows() + [row | {"seed": 1, "si_sdri_db": row["si_sdri_db"] and 9.0} for row in made_up_rows()]
    values = show.gains(made_up_arm(rows), "right")
    assert values.shape == (2, 40)
    assert np.all(values[1] == 9.0) and values[0].mean() == pytest.approx(4, abs=0.6)


def test_conditions_sort_every_mixture_into_one_bin_by_its_lowest_sir():
    panels = show.conditions(made_up_arm())
    assert list(panels) == ["lowest SIR, dB", "SNR, dB", "interferers"]
    for curves in panels.values():
        assert sum(value.n for value in curves["right enrolment"].values()) == 40
    below = [row["si_sdri_db"] for row in made_up_rows() if row["present"] and row["sir_db"] < -2.5]
    assert panels["lowest SIR, dB"]["right enrolment"]["below\n−2.5"].mean == pytest.approx(np.mean(below))


def test_conditions_that_do_not_vary_are_left_out():
    rows = [row | {"n_interferers": 1, "snr_db": None} for row in made_up_rows()]
    assert list(show.conditions(made_up_arm(rows))) == ["lowest SIR, dB"]


# ---- tables


def test_numbers_have_real_minus_signs_and_no_negative_zero():
    assert tables.number(-1.25, 1, signed=True) in ("−1.2", "−1.3")
    assert tables.number(-0.01, 1, signed=True) == "0.0"
    assert tables.number(2, 1, signed=True) == "+2.0"
    assert tables.number(None) == tables.number(float("nan")) == "–"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 seconds"), (119, "119 seconds"), (600, "10.0 minutes"), (86400 * 3, "3.0 days")])
def test_durations_take_the_unit_that_suits(seconds, text):
    assert tables.duration(seconds) == text


def test_tables_escape_all_text():
    text = tables.table(["<b>"], [["<i>", "a&b"]], "<u>")
    assert not re.search(r"<[biu]>", text) and "a&amp;b" in text


def test_metric_table_has_every_metric_with_its_interval():
    summary = summarise(made_up_rows())
    text = tables.metrics({"baseline": summary})
    assert set(tables.LABELS) == set(METRICS)
    for metric, (label, _, digits) in tables.LABELS.items():
        assert label in text and tables.number(summary[metric]["mean"], digits, metric in tables.SIGNED) in text
    assert text.count("<td") == len(METRICS) * 4


def test_plan_table_shows_the_published_numbers():
    text = tables.plan(summarise(made_up_rows()), "here")
    for metric, value in PUBLISHED.items():
        assert f">{tables.number(value, tables.LABELS[metric][2], metric in tables.SIGNED)}<" in text


def test_parameter_table_lists_exactly_what_differs():
    text = tables.parameters(Params(steps=77, corpus="a<b"))
    assert re.findall(r'<th scope="row">(\w+)</th>', text) == ["corpus", "steps"]
    assert ">77<" in text and ">1500000<" in text and "a&lt;b" in text


def test_pesq_failures_are_counted():
    rows = [row | {"pesq_error": "no speech" if row["index"] in (3, 4) else None} for row in made_up_rows()]
    assert tables.failures(made_up_rows()) == "none"
    assert tables.failures(rows) == "2 of 50 mixtures (2 times: no speech)"
    assert "2 times: no speech" in report.facts(made_up_arm(rows))["PESQ failures"]


def test_facts_name_no_noise_and_no_rooms_where_none_are_used():
    used, unused = (report.facts(made_up_arm(params=SMOKE.model_copy(update={"noise_prob": p, "reverb_prob": p}))) for p in (1.0, 0.0))
    assert (used["noise"], used["rooms"]) == ("synthetic", "synthetic")
    assert (unused["noise"], unused["rooms"]) == ("none", "none")


# ---- listening


def decoded(fragment: str) -> list[np.ndarray]:
    return [soundfile.read(io.BytesIO(base64.b64decode(data)))[0] for data in re.findall(r"base64,([^\"]+)", fragment)]


def sine(hertz: float, amplitude: float, seconds: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(48_000 * seconds)) / 48_000)).astype(np.float32)


def test_players_share_one_gain_and_do_not_clip():
    loud, quiet = decoded(players.players({"mixture": sine(440, 3.0), "target": sine(440, 0.3)}, "test"))
    assert np.abs(loud).max() < 1
    assert loud.std() / quiet.std() == pytest.approx(10, rel=0.02)
    assert loud.std() == pytest.approx(players.PEAK / np.sqrt(2), rel=0.03)


def test_players_of_silence_stay_silent():
    (silent,) = decoded(players.players({"target": np.zeros(48_000, np.float32)}, "test"))
    assert np.abs(silent).max() < 1e-4


@pytest.mark.parametrize("hertz", [1000, 17_500])
def test_players_keep_what_48_khz_is_about(hertz):
    (heard,) = decoded(players.players({"mixture": sine(hertz, 0.5)}, "test"))
    spectrum = np.abs(np.fft.rfft(heard[12_000:36_000] * np.hanning(24_000))) / 6000
    assert 20 * np.log10(spectrum[hertz // 2]) == pytest.approx(20 * np.log10(players.PEAK), abs=1.0)


def test_players_are_labelled_and_escaped():
    text = players.players({"<i>mixture": sine(440, 0.5)}, 'best "one"')
    assert "<i>" not in text and 'aria-label="&lt;i&gt;mixture, best &quot;one&quot;, 1.0 seconds"' in text


def test_examples_are_best_median_worst_and_absent():
    rows = made_up_rows()
    chosen = listening.choose(rows)
    gains = sorted(row["si_sdri_db"] for row in rows if row["present"])
    assert list(chosen) == ["best", "median", "worst", "target absent"]
    assert chosen["best"]["si_sdri_db"] == gains[-1] and chosen["worst"]["si_sdri_db"] == gains[0]
    assert chosen["median"]["si_sdri_db"] in gains[18:22] and not chosen["target absent"]["present"]
    assert listening.choose([]) == {}


def test_caption_names_what_was_measured_and_mixed():
    row = {"present": True, "n_interferers": 2, "si_sdri_db": 3.25, "si_sdri_wrong_enroll_db": -0.01, "sir_db": -4.0}
    text = listening.caption(listening.Example("best", row, {}))
    assert text == "SI-SDRi +3.2 dB, with the wrong enrolment 0.0 dB, 2 interferers, SIR −4.0 dB, no noise, no room"


def made_up_mixture(present: bool = True) -> Mixture:
    rng = np.random.default_rng(0)
    target, first, second, noise = (rng.normal(size=(4, 48_000)) * [[0.1], [0.02], [0.3], [0.01]]).astype(np.float32)
    target = target * present
    enroll = rng.normal(size=(1, 24_000)).astype(np.float32)
    others = np.stack([first, second])
    return Mixture(target + others.sum(0) + noise, target, others, noise, enroll, enroll[:, ::-1].copy(), {"id": "test-0"})


def test_listening_takes_the_mixtures_of_the_evaluation_not_of_the_training(monkeypatch):
    asked = []

    class Mixer:
        def __init__(self, params: Params, split: str) -> None:
            self.params, self.split = params, split

        def mixture(self, seed, index, conditions, wrong_enroll):
            asked.append((self.params.corpus_seed, self.split, seed, conditions.name, conditions.snr_min_db))
            return made_up_mixture(present=not conditions.absent)

    monkeypatch.setattr(listening, "Mixer", Mixer)
    rows = made_up_rows(count=5) + [made_up_rows(count=2)[1] | {"list": "partial", "index": index} for index in range(2)]
    others = {"corpus_seed": 3, "eval_seed": 7, "snr_min_db": [2.0]}
    arm = replace(made_up_arm(rows), evaluation=SMOKE.model_copy(update=others))
    clips = {example.name: list(example.clips) for example in listening.examples(arm)}
    assert clips["best"] == ["mixture", "target", "estimate", "enrolment", "estimate with the wrong enrolment"]
    assert "target" not in clips["target absent"]
    assert set(asked) == {(3, "test", 7, "test", 2.0)} and len(asked) == 4
    times, levels = listening.presence(arm)
    assert set(asked[4:]) == {(3, "test", 7, "partial", 2.0)} and len(times) == len(levels["target"]) == 10
    assert levels["target"][0] == pytest.approx(20 * np.log10(0.1), abs=0.5)


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 12.0])
def test_remix_brings_every_interferer_to_the_ratio_asked_for(ratio):
    mixture = made_up_mixture()
    rest = explore.remix(mixture, ratio) - mixture.target - mixture.noise
    for part in mixture.interferers:  # the parts are noise, thus nearly orthogonal
        gain = rest @ part / (part @ part)
        assert 20 * np.log10(mixture.target.std() / (gain * part).std()) == pytest.approx(ratio, abs=0.5)


def test_remix_leaves_a_mixture_without_target_alone():
    mixture = made_up_mixture(present=False)
    assert np.array_equal(explore.remix(mixture, 10.0), mixture.mix)


def test_panel_is_one_line_where_nobody_sits():
    assert "JupyterLab" in explore.panel(made_up_arm()).data


@pytest.mark.parametrize("kind", ["right", "wrong", "zero"])
def test_exploring_shows_the_numbers_the_spectrograms_and_the_players(kind, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(explore, "rebuild", lambda row, params: replace(made_up_mixture(), metadata={"id": f"test-{row['index']}"}))
    monkeypatch.setattr(explore, "display", shown.append)
    explore.show(made_up_arm(), 3, 0.0, kind)
    assert "SI-SDR" in capsys.readouterr().out
    assert [type(part).__name__ for part in shown] == ["Image", "HTML"]
    assert len(decoded(shown[1].data)) == 4


def test_panel_extracts_at_the_press_of_its_button(monkeypatch):
    asked = []
    monkeypatch.setattr(explore, "is_live", lambda: True)
    monkeypatch.setattr(explore, "show", lambda arm, index, sir_db, kind: asked.append((index, sir_db, kind)))
    (index, sir), (kind, button), _ = (getattr(row, "children", row) for row in explore.panel(made_up_arm()).children)
    index.value, sir.value, kind.value = 99, 5.0, "zero"
    button.click()
    assert asked == [(SMOKE.eval_mixtures - 1, 5.0, "zero")]  # the list ends there
    assert not button.disabled


# ---- metrics.json


def test_metrics_have_the_agreed_form():
    content = report.metrics("00_baseline", SMOKE, [made_up_arm()])
    names = ["notebook", "preset", "corpus", "status", "commit", "created", "device", "params", "arms", "comparisons"]
    assert list(content) == names
    assert content["status"] == "complete" and content["preset"] == "smoke" and content["corpus"] == "synthetic"
    arm = content["arms"]["baseline"]
    assert list(arm) == ["parameters", "steps", "seconds_per_step", "metrics"]
    assert arm["parameters"] == sum(p.numel() for p in Extractor(SMOKE.extractor).parameters())
    assert set(arm["metrics"]) == set(METRICS)
    assert all(set(value) == {"mean", "low", "high", "n"} for value in arm["metrics"].values())
    assert Params(**content["params"]) == SMOKE


def test_failed_metrics_say_why():
    content = report.metrics("00_baseline", SMOKE, [], error="it rained")
    assert (content["status"], content["error"], content["arms"]) == ("failed", "it rained", {})


def test_metrics_are_strict_json_and_written_whole(tmp_path):
    given = {"a": float("nan"), "b": [float("inf"), 1.5], "c": (None, {"d": -0.5})}
    path = report.write_metrics(tmp_path / "new" / "metrics.json", given)
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == {"a": None, "b": [None, 1.5], "c": [None, {"d": -0.5}]}
    before = path.read_text()
    with pytest.raises(TypeError):
        report.write_metrics(path, {"a": object()})
    assert path.read_text() == before and [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_folder_tells_recordings_from_synthetic_voices(monkeypatch, tmp_path):
    monkeypatch.setenv("HIFITSE_REPORTS", str(tmp_path))
    assert report.folder(SMOKE, "00_baseline") == tmp_path / "smoke" / "00_baseline"
    assert report.folder(SMOKE.model_copy(update={"corpus": "/x"}), "00_baseline") == tmp_path / "smoke-real" / "00_baseline"
    monkeypatch.delenv("HIFITSE_REPORTS")
    assert report.folder(SMOKE, "a") == report.CHECKOUT / "reports" / "smoke" / "a"


def test_metrics_of_plain_papermill_stay_out_of_the_reports(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HIFITSE_REPORT_DIR", raising=False)
    assert report.metrics_path("00_baseline") == tmp_path / "00_baseline.metrics.json"
    monkeypatch.setenv("HIFITSE_REPORT_DIR", str(tmp_path / "there"))
    assert report.metrics_path("00_baseline") == tmp_path / "there" / "metrics.json"


def test_commit_outside_git_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(report, "CHECKOUT", tmp_path)
    assert report.commit() == "unknown"
