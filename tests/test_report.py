"""Test the report on made-up rows: verdicts, tables and metrics.json."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from arms import SMOKE, interval, made_up_arm, made_up_rows
from sounds import folders

from hifitse.metrics import Interval
from hifitse.params import Params, resolve
from hifitse.report import collect, contract, report, show, tables


@pytest.mark.parametrize(("right", "difference", "mark", "word"), [
    (interval(4), interval(6), "good", "Yes"),
    (interval(0.6), interval(6), "weak", "Barely"),
    (interval(4), interval(0.1), "weak", "no measurable difference"),
    (interval(0.6), interval(0.1), "weak", "hardly"),
    (interval(0.1), interval(6), "weak", "no better"),
    (interval(-3), interval(0.1), "bad", "worse"),
    (interval(0.1), interval(-0.1), "bad", "does not extract"),
    (interval(4, n=5), interval(6, n=5), "weak", "Too few"),
    (Interval(4, float("nan"), float("nan"), 1), interval(6), "weak", "Too few"),
])  # fmt: skip
def test_judgement_follows_the_intervals(right, difference, mark, word):
    assert show.judge(right, difference)[0] == mark
    assert word in show.judge(right, difference)[1]


def test_verdict_says_numbers_data_and_scale():
    text = show.verdict(made_up_arm()).data
    means = [np.mean([row[key] for row in made_up_rows() if row["present"]]) for key in ("si_sdri_db", "si_sdri_wrong_enroll_db")]
    for value in (*means, means[0] - means[1]):
        assert tables.number(value, 1, signed=True) + " dB" in text
    assert "synthetic" in text and "4 steps" in text and "a made-up device" in text and "40 test mixtures, 3 target speakers" in text
    text = show.verdict(made_up_arm(params=SMOKE.model_copy(update={"corpus": "<script>alert(1)</script>"}))).data
    assert "synthetic" not in text and "<script>" not in text and "&lt;script&gt;" in text


def test_conditions_sort_every_mixture_into_one_bin_by_its_lowest_sir():
    panels = show.conditions(made_up_arm())
    assert list(panels) == ["lowest SIR, dB", "SNR, dB", "interferers"]
    for bins in panels.values():
        assert sum(kinds["right enrolment"].n for kinds in bins.values()) == 40
    below = [row["si_sdri_db"] for row in made_up_rows() if row["present"] and row["sir_db"] < -2.5]
    assert panels["lowest SIR, dB"]["below −2.5"]["right enrolment"].mean == pytest.approx(np.mean(below))
    rows = [row | {"n_interferers": 1, "snr_db": None} for row in made_up_rows()]
    assert list(show.conditions(made_up_arm(rows))) == ["lowest SIR, dB"]  # what does not vary is left out
    narrow = show.conditions(made_up_arm(params=SMOKE.model_copy(update={"sir_min_db": 0.0, "sir_max_db": 0.01})))
    assert list(narrow["lowest SIR, dB"]) == ["below 0.0025", "from 0.0075"]


def test_numbers_have_real_minus_signs_and_no_negative_zero():
    assert tables.number(-1.25, 1, signed=True) in ("−1.2", "−1.3")
    assert tables.number(-0.01, 1, signed=True) == "0.0"
    assert tables.number(2, 1, signed=True) == "+2.0"
    assert tables.number(None) == tables.number(float("nan")) == "–"


def test_parameter_table_lists_exactly_what_differs():
    text = tables.parameters(Params(steps=77, corpus="a<b"))
    assert re.findall(r"<tr>\s*<th>(\w+)</th>\s*<td>", text) == ["corpus", "steps"]
    assert ">77<" in text and ">1500000<" in text and "a&lt;b" in text


def test_facts_count_failures_and_name_what_was_used_and_what_was_not_measured():
    failed = {"pesq_error": "no speech", "pesq": None}
    rows = [row | (failed if row["index"] in (3, 4) else {}) | {"seed": seed} for seed in (0, 1) for row in made_up_rows()]
    said = [report.facts(made_up_arm(each)) for each in (made_up_rows(), rows)]
    assert [each["PESQ failures"] for each in said] == ["none", "4 of 80 estimates (4 times: no speech)"]
    assert said[0]["test list"] == said[1]["test list"] and said[1]["test list"].startswith("50 mixtures of 1 s, 40 with the target;")
    listed = made_up_arm(params=SMOKE.model_copy(update={"eval_list": "/some/list.jsonl"}))
    assert report.facts(listed)["test list"].endswith("SHA-256 of the list missing")
    assert report.facts(listed)["held out"][0] == "0" and "Tested on the list list.jsonl." in show.verdict(listed).data
    assert "PESQ 1.10 and STOI 0.450" in show.untreated(made_up_arm()).data
    unmeasured = [row | {"pesq_mix": None, "stoi_mix": None} for row in rows]
    assert "were not measured" in show.untreated(made_up_arm(unmeasured)).data
    used, unused = (report.facts(made_up_arm(params=SMOKE.model_copy(update={"noise_prob": p, "reverb_prob": p}))) for p in (1.0, 0.0))
    assert (used["noise"], used["rooms"], unused["noise"], unused["rooms"]) == ("synthetic", "synthetic", "none", "none")


def test_metrics_have_the_agreed_form():
    content = report.metrics("00_baseline", SMOKE, [made_up_arm()])
    names = ["notebook", "preset", "corpus", "status", "commit", "created", "device", "params", "arms", "comparisons", "label"]
    assert list(content) == names and content["label"] == "interferers_max=_2_"
    assert content["status"] == "complete" and content["preset"] == "smoke" and content["corpus"] == "synthetic"
    assert content["arms"]["baseline"]["seconds_per_step"] == 0.5
    assert Params(**content["params"]) == SMOKE
    assert report.metrics("11_performance", SMOKE, [])["device"] != "auto"  # without arms it is the machine that measured
    failed = report.metrics("00_baseline", SMOKE, [], error="it rained")
    assert (failed["status"], failed["error"], failed["arms"]) == ("failed", "it rained", {})


def test_metrics_are_strict_json_written_whole_and_read_back(tmp_path):
    value = {"mean": float("nan"), "low": float("inf"), "high": 1.5, "n": 0}
    given = report.metrics("00_baseline", SMOKE, [made_up_arm()]) | {"more": [value]}
    path = contract.write(tmp_path / "new" / "metrics.json", given)
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read["more"] == [{"mean": None, "low": None, "high": 1.5, "n": 0}]
    assert contract.load(path).model_dump(mode="json", exclude_unset=True) == read
    before = path.read_text()
    for wrong in ({"arms": []}, {"status": "good"}, {"comparisons": [{"arm": "x"}]}):
        with pytest.raises(contract.ContractError, match="comparisons.0.metric" if "comparisons" in wrong else next(iter(wrong))):
            contract.write(path, given | wrong)
    assert path.read_text() == before and [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_a_training_that_was_cut_says_so_first():
    arm = made_up_arm(finished=False)
    content = report.metrics("00_baseline", SMOKE, [arm])
    assert content["status"] == "cut" and content["error"].startswith(f"Cut short by max_minutes: baseline after 4 of {SMOKE.steps} steps")
    said = show.verdict(arm).data
    assert '<p class="headline">Cut short by the time limit: baseline after 4 of' in said and f"4 steps ({SMOKE.steps:,} planned)" in said


def test_a_cut_report_replaces_all_but_a_complete_one(tmp_path):
    def run(**kind):
        for name in report.FILES[:2]:
            (tmp_path / name).write_text("page")
        contract.write(tmp_path / "metrics.json", report.metrics("00_baseline", resolve("smoke"), [made_up_arm(**kind)]))
        return report.place(tmp_path, tmp_path / "smoke" / "00_baseline")

    assert [run(finished=False)[0].name for _ in range(2)] == ["00_baseline"] * 2
    assert run()[1] == ""
    where, said = run(finished=False)
    assert where.name == "00_baseline.attempt" and "continue from the last checkpoint" in said
    (one,) = collect.read(tmp_path, smoke=True)
    assert (one.folder, one.status, one.place) == ("smoke/00_baseline", "complete", "smoke/00_baseline")


def test_reports_of_a_preset_are_kept_apart(monkeypatch, tmp_path):
    monkeypatch.delenv("HIFITSE_REPORTS", raising=False)
    assert report.folder(resolve("smoke"), "a") == report.CHECKOUT / "reports" / "mine" / "smoke" / "a"
    assert report.roots() == (report.CHECKOUT / "reports", report.CHECKOUT / "reports" / "mine")
    monkeypatch.setenv("HIFITSE_REPORTS", str(tmp_path))
    tops = [report.folder(resolve("smoke", **given), "a").parent.name for given in ({}, {"threads": 1}, {"lr": 0.5}, {"eval_seed": 7})]
    assert tops == ["smoke", "smoke", "smoke+lr=0.5", "smoke+eval_seed=7"]
    assert report.folder(resolve("smoke", arms=True), "a") == tmp_path / "smoke" / "a"
    assert report.top("people", "$HIFITSE_DATA/people, synthetic") == "people" and report.top("people", "synthetic") == "people-synthetic"
    assert report.folder(resolve("smoke", corpus="/x y"), "a") == tmp_path / "smoke-real+corpus=_x_y" / "a"
    monkeypatch.setenv("HIFITSE_NAME", "first/try")
    assert report.folder(resolve("smoke", lr=0.5), "a") == tmp_path / "smoke+first_try" / "a" and report.roots() == (tmp_path,)


def test_metrics_by_hand_lie_beside_the_report_and_replace_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HIFITSE_REPORTS", str(tmp_path))
    monkeypatch.delenv("HIFITSE_REPORT_DIR", raising=False)
    path = report.write("00_baseline", resolve("smoke"), [made_up_arm()])
    assert path == tmp_path / "smoke" / "00_baseline" / "00_baseline.metrics.json" and collect.read(tmp_path, smoke=True) == []
    monkeypatch.setenv("HIFITSE_REPORT_DIR", str(tmp_path / "there"))
    assert report.metrics_path("00_baseline", SMOKE) == tmp_path / "there" / "metrics.json"


def test_files_that_cannot_be_used_are_counted_over_all_sources_of_a_kind(tmp_path):
    made = folders(tmp_path)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "broken.wav").write_bytes(b"no sound")
    shutil.copy(next(Path(made["noise"]).glob("*")), tmp_path / "more")
    params = resolve("smoke", noise=f"{made['noise']}, {tmp_path / 'more'}, synthetic")
    assert report.skipped(params).startswith("1, the first: broken.wav")
