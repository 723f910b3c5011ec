"""Test the summary: what it takes from the reports, and that nothing in them can make it fail."""

import json

import pytest
from made_up import content, reports, row, write

from hifitse.report import collect, gallery, summary
from hifitse.report.collect import RECORDINGS, SYNTHETIC


def entries(root, **options):
    return summary.entries(collect.read(root, **options))


def of(found, number, data=SYNTHETIC):
    return [entry for entry in found if entry.stage.number == number and entry.data == data]


def test_a_measured_arm_carries_gain_cost_and_scale(tmp_path):
    found = entries(reports(tmp_path))
    gains = [(entry.name, entry.value.mean, entry.verdict) for entry in of(found, "02")]
    assert gains == [("02 wider", 2.1, "helped"), ("02 wider", 0.9, "helped"), ("02 deeper", 0.1, "neutral"), ("02 smaller", -0.6, "hurt")]
    assert [entry.report.preset for entry in of(found, "02")] == ["medium", "demo", "demo", "demo"]
    [wider] = of(found, "02", RECORDINGS)
    assert (wider.slower, wider.value.n) == (1.5, 79)
    assert [entry.value.mean for entry in summary.measured(found, SYNTHETIC)] == [2.1, 0.9, 0.1, 0.05, -0.6]
    [cells] = [cells for _, cells in summary.ranking_rows(found, RECORDINGS)]
    assert cells == [
        "02 wider", "helped", "+1.20", "+1.00 to +1.40", "79", "+0.5 to +1.5", "overlaps it", "1.50 ×, 3.00 M",
        "recordings, demo, 400 steps, 1 seed, x86_64 cpu, 2 threads",
    ]  # fmt: skip


def test_the_verdict_counts_claims_and_arms(tmp_path):
    headline, cards, text = summary.sentences(entries(reports(tmp_path)))
    assert headline == "3 of the plan's 9 claims were measured."  # 02, 03, and 08, which is about speed
    assert cards[1][1] == "2 helped" and "of 5 arms of 2 claims; 2 neutral, 1 hurt; 6 claims missing" in cards[1][2]
    assert cards[0][1] == "1 helped" and "of 1 arm of 1 claim; 0 neutral, 0 hurt; 8 claims missing" in cards[0][2]
    assert "Of the 6 comparisons with a verdict" in text and "names a range (5 comparisons), the whole interval is below it for 2" in text
    write(tmp_path, "demo/05_curriculum", content("demo/05_curriculum", row("late", -0.5), row("late", 0.5, list="hard")))
    card = summary.sentences(entries(tmp_path))[1][1]
    assert card[1] == "2 helped" and "; 2 neutral, 2 hurt (on other test lists or against another arm: 1 helped, 0 neutral, " in card[2]


@pytest.mark.parametrize(("mean", "half", "words"), [(0.3, 0.1, "below it"), (0.4, 0.2, "overlaps it"), (1.8, 0.2, "above it")])
def test_an_interval_lies_below_above_or_over_the_expected_range(mean, half, words, tmp_path):
    write(tmp_path, "demo/02_capacity", content("demo/02_capacity", row("wider", mean, half)))
    assert of(entries(tmp_path), "02")[0].beside == words


@pytest.mark.parametrize("changes", [{"n": 19}, {"low": None, "high": None}])
def test_too_few_mixtures_give_no_verdict(changes, tmp_path):
    write(tmp_path, "demo/02_capacity", content("demo/02_capacity", row("wider", 1.0, **changes)))
    [entry] = of(entries(tmp_path), "02")
    assert (entry.verdict, entry.beside) == ("too few mixtures", "–")
    assert summary.sentences([entry])[1][1][1] == "0 helped"
    assert "too few mixtures" in gallery.page(collect.read(tmp_path))


def test_a_failed_run_and_a_missing_one_are_said_with_reason_and_command(tmp_path):
    found = entries(reports(tmp_path))
    [failed], [missing] = of(found, "04"), of(found, "04", RECORDINGS)
    assert (failed.state, failed.reason) == ("failed", "it rained, expected sunshine")
    assert (missing.state, missing.reason) == ("missing", "not run yet")
    wanted = {"hifitse run 04_augmentation --preset people", "hifitse run 04_augmentation --preset medium"}
    assert wanted < set(summary.commands(found, "medium")) and "hifitse run 02_capacity --preset medium" not in summary.commands(found)


GOOD = content("demo/02_capacity", row("wider", 0.9))
WHOLE = json.dumps(GOOD, indent=1)


def bad_claim(**changes):
    return content("demo/02_capacity", row("deeper", 0.5), row("wider", 0.9) | changes)


@pytest.mark.parametrize(("made", "words"), [
    (None, "cannot be read"),
    (WHOLE[:200], "Invalid JSON"),
    (WHOLE.replace("0.5", "NaN", 1), "has nan as arms.baseline"),
    ("[1, 2]", "has [1, 2] as all of it"),
    ("{}", "as notebook: Field required"),
    (GOOD | {"status": "running"}, "has 'running' as status"),
    (GOOD | {"arms": []}, "has [] as arms"),
    ({key: value for key, value in GOOD.items() if key != "comparisons"}, "as comparisons: Field required"),
    (GOOD | {"comparisons": [None]}, "has None as comparisons.0"),
    (bad_claim(difference="0.5"), "has '0.5' as comparisons.1.difference"),
    (bad_claim(n=None), "has None as comparisons.1.n"),
    (bad_claim(verdict="great"), "has 'great' as comparisons.1.verdict"),
])  # fmt: skip
def test_a_file_that_is_not_as_it_should_be_is_counted_with_the_reason(made, words, tmp_path):
    write(tmp_path, "demo/02_capacity", made)
    [one] = collect.read(tmp_path)
    assert one.status == "unreadable" and words in one.reason and "\n" not in one.reason and len(one.reason) < 240
    [entry] = of(entries(tmp_path), "02")
    assert (entry.state, entry.reason) == ("unreadable", one.reason)


def test_the_voices_of_an_unreadable_report_are_those_of_its_preset(tmp_path):
    for name in ("demo", "demo-real", "people", "people-synthetic+x"):
        write(tmp_path, f"{name}/02_capacity", "{")
    found = [(one.preset, one.data) for one in collect.read(tmp_path)]
    assert found == [("people", RECORDINGS), ("demo", RECORDINGS), ("demo", SYNTHETIC), ("people+x", SYNTHETIC)]


def test_a_comparison_without_a_value_is_left_out(tmp_path):
    write(tmp_path, "demo/02_capacity", bad_claim(difference=None))
    assert [entry.name for entry in of(entries(tmp_path), "02")] == ["02 deeper"]


def test_other_metrics_are_passed_over_and_all_are_copied(tmp_path):
    rows = [row("wider", 0.9), row("wider", 0.1, metric="pesq"), row("hard", 0.4, list="hard"), row("both", 0.3, baseline="the sum")]
    write(tmp_path, "demo/02_capacity", content("demo/02_capacity", *rows))
    assert [entry.name for entry in of(entries(tmp_path), "02")] == ["02 wider", "02 hard (hard list)", "02 both (against the sum)"]
    copied = summary.comparisons(collect.read(tmp_path))
    assert [dict(each) for each in copied] == [each | {"report": "demo/02_capacity"} for each in rows]


def test_ones_own_report_stands_for_the_committed_one_of_its_name(tmp_path):
    roots = tmp_path / "reports", tmp_path / "reports" / "mine"
    for root, gain in zip(roots, (0.9, 1.9), strict=True):
        write(root, "demo/02_capacity", content("demo/02_capacity", row("wider", gain)))
    write(roots[0], "demo/03_long_segments", content("demo/03_long_segments", row("6 s", 0.5)))
    failed = content("demo/03_long_segments", status="failed", error="it rained")
    write(roots[1], "demo/03_long_segments.attempt", failed)
    found = collect.read(*roots)
    assert [(one.folder, one.status, one.place) for one in found] == [
        ("demo/02_capacity", "complete", "demo/02_capacity"), ("demo/03_long_segments", "complete", "../demo/03_long_segments"),
    ]  # fmt: skip
    assert of(summary.entries(found), "02")[0].value.mean == 1.9


def test_presets_stand_side_by_side_and_people_lead(tmp_path):
    write(tmp_path, "demo/03_long_segments", content("demo/03_long_segments", row("4 s", -0.6), row("3 s", -0.5)))
    write(tmp_path, "demo-real/03_long_segments", content("demo-real/03_long_segments", row("3 s", 0.9)))  # not the demo's own voices
    people = row("4 s", 0.5), row("4 s", 2.0, list="unseen sources"), row("3 s", 0.5, n=19)
    write(tmp_path, "people/03_long_segments", content("people/03_long_segments", *people, corpus="voices/people"))
    found = collect.read(tmp_path)
    assert [one.folder.partition("/")[0] for one in found] == ["people", "demo-real", "demo"]
    assert [cells for _, cells in summary.scale_rows(found)] == [
        ["03 3 s", "too few mixtures +0.50", "–", "hurt −0.50", "–"], ["03 4 s", "helped +0.50", "–", "hurt −0.60", "yes"],
    ]  # fmt: skip
    text = gallery.markdown(found)
    assert text.index("gain, on recordings") < text.index("gain, on synthetic voices") < text.index("By scale")
    assert [gallery.gain(tmp_path, "03_long_segments", name)[2] for name in ("4 s", "3 s")] == ["people", "people"]
    write(tmp_path, "people/03_long_segments", content("people/03_long_segments", row("4 s", None), corpus="voices/people"))
    assert [gallery.gain(tmp_path, "03_long_segments", name)[0] for name in ("4 s", "3 s")] == ["not measured", "-0.50 (-0.70 to -0.30)"]


def test_a_run_under_way_smoke_hidden_folders_and_foreign_files_are_passed_over(tmp_path):
    write(tmp_path, "demo/02_capacity/.running-x", GOOD)
    write(tmp_path, "demo/.02_capacity", GOOD)
    write(tmp_path, ".demo/02_capacity", GOOD)
    write(tmp_path, "demo/notes", None)
    write(tmp_path, "smoke/02_capacity", content("smoke/02_capacity", row("wider", 0.9)))
    (tmp_path / "log.md").write_text("a log")
    (tmp_path / "demo/03_long_segments").write_text("a file")
    assert collect.read(tmp_path) == [] and [one.folder for one in collect.read(tmp_path, smoke=True)] == ["smoke/02_capacity"]
    write(tmp_path, "demo/notes", GOOD)
    (tmp_path / "demo/06_losses/metrics.json").mkdir(parents=True)
    reasons = [one.reason for one in collect.read(tmp_path)]
    assert "cannot be read" in reasons[0] and reasons[1] == ""
