"""`flp-ray fit`, `predict` and `backtest` on folders of finished runs, as a person would call them."""

import csv
import json
import subprocess
import sys

import pytest

from flp_ray import finished
from flp_ray.cli import main
from flp_ray.core.records import Records
from flp_ray.synthetic import LadderWorld, join, paper_size, two_source_mixtures, two_source_world
from flp_ray.synthetic.design import Design

SIZES = tuple((n, 20 * n) for n in (1e8, 2e8, 4e8, 8e8, 1.6e9))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flp_ray" / "fits"


def write(folder, records: Records):
    """Records in the import form, as CSV."""
    folder.mkdir()
    sources = sorted({s for r in records.runs if r.mixture for s in r.mixture.sources})
    with (folder / "runs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run_id", "purpose", "params", "train_tokens", *(f"ratio.{s}" for s in sources)])
        for r in records.runs:
            ratios = [repr(r.mixture.ratio(s)) for s in sources] if r.mixture else []
            rows.writerow([r.run_id, r.purpose, r.params, r.train_tokens, *ratios])
    with (folder / "measurements.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run_id", "tokens", "flops", "kind", "name", "value"])
        rows.writerows([m.run_id, m.tokens, repr(m.flops), m.kind, m.name, repr(m.value)] for m in records.measurements)
    with (folder / "tasks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["task", "random_performance"])
        rows.writerows([t.task, t.random_performance] for t in records.tasks)
    return folder


@pytest.fixture(scope="module")
def ladder_folder(tmp_path_factory):
    world = LadderWorld()
    records = join(
        world.records(SIZES, 0, checkpoints=6), world.records([(6.9e9, 3.9e12)], 0, purpose="target", checkpoints=1)
    )
    return write(tmp_path_factory.mktemp("ladder") / "runs", records)


@pytest.fixture(scope="module")
def mixture_folder(tmp_path_factory):
    design = Design(
        sizes=tuple(paper_size(n) for n in ("0.2B", "0.32B", "0.5B", "0.72B")),
        mixtures=two_source_mixtures("code", "general", [0.0, 0.1, 0.3, 0.5]),
        checkpoints=5,
    )
    return write(tmp_path_factory.mktemp("mixture") / "runs", two_source_world().records(design, 0))


def test_backtest_prints_the_promised_json(ladder_folder, capsys):
    assert main(["backtest", str(ladder_folder), "--method", "flp", "--method", "auto", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["methods"]) == ["flp", "auto"]
    assert answer["chosen"] == "auto"
    [(run_id, target)] = answer["methods"]["auto"]["targets"].items()
    assert run_id == "6.9e+09-3.9e+12"
    for kind, names in (("performance", {"early", "late", "steady"}), ("domain_loss", {"code", "papers", "web"})):
        assert set(target[kind]) <= names
        for value in target[kind].values():
            assert set(value) == {"predicted", "low", "high", "actual", "relative_error"}
            assert value["low"] <= value["predicted"] <= value["high"]
    summary = answer["methods"]["auto"]["summary"]
    for kind in ("performance", "domain_loss"):
        assert {"mean_relative_error", "median_relative_error", "max_relative_error", "interval_coverage"} <= set(
            summary[kind]
        )
    assert "spearman" in summary["domain_loss"]


def test_backtest_writes_a_report_with_figures(ladder_folder, tmp_path, capsys):
    assert main(["backtest", str(ladder_folder), "--method", "auto", "--out", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert "report.html" in said
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert list((tmp_path / "report" / "figures").glob("*.png"))
    assert list((tmp_path / "report" / "figures").glob("*.svg"))


def test_without_targets_the_largest_runs_are_held_out(mixture_folder, capsys):
    assert main(["backtest", str(mixture_folder), "--method", "auto", "--method", "m1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["methods"]["auto"]["targets"]) == 4
    assert "held out" in answer["held_out"]
    assert "mean" in answer["methods"]["auto"]["summary"]["domain_loss"]["spearman"]


def test_fit_keeps_its_result_and_predict_reads_it(ladder_folder, tmp_path, capsys, cache, monkeypatch):
    kept = tmp_path / "kept" / "fit.json"
    assert main(["fit", str(ladder_folder), "--out", str(kept)]) == 0
    assert "auto" in capsys.readouterr().out
    assert len(list(cache.iterdir())) == 1
    ask = ["--params", "6.9e9", "--tokens", "3.9e12", "--json"]
    assert main(["predict", str(ladder_folder), *ask]) == 0
    from_cache = json.loads(capsys.readouterr().out)
    assert main(["predict", str(kept), *ask]) == 0
    assert json.loads(capsys.readouterr().out) == from_cache
    assert from_cache["performance"]["steady"]["low"] < from_cache["performance"]["steady"]["high"]
    assert from_cache["extrapolated"]
    assert any("More than 30x" in w for w in from_cache["warnings"])
    monkeypatch.setattr("flp_ray.fit.predictor.predictor.fit_predictor", None)
    assert main(["predict", str(ladder_folder), *ask]) == 0, "nothing is fitted a second time"


def test_other_records_are_fitted_anew(ladder_folder, tmp_path, cache):
    ask = ["--params", "1e9", "--tokens", "2e10"]
    assert main(["predict", str(ladder_folder), *ask]) == 0
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in ladder_folder.iterdir():
        (changed / path.name).write_text(path.read_text().replace(",early,0.", ",early,0.0"))
    assert main(["predict", str(changed), *ask]) == 0
    assert len(list(cache.iterdir())) == 2


def test_a_spoiled_cache_is_made_anew(ladder_folder, cache, capsys):
    ask = ["predict", str(ladder_folder), "--params", "1e9", "--tokens", "2e10", "--json"]
    assert main(ask) == 0
    first = capsys.readouterr().out
    [path] = cache.iterdir()
    path.write_text(path.read_text()[:1000])
    assert main(ask) == 0
    assert capsys.readouterr().out == first


def test_predict_at_a_mixture(mixture_folder, capsys):
    ask = ["predict", str(mixture_folder), "--params", "1e9", "--tokens", "1.8e11", "--json"]
    assert main([*ask, "--ratio", "code=0.25", "--ratio", "general=0.75"]) == 0
    quarter = json.loads(capsys.readouterr().out)
    assert quarter["ratios"] == {"code": 0.25, "general": 0.75}
    assert main([*ask, "--ratio", "general=1"]) == 0
    none = json.loads(capsys.readouterr().out)
    assert none["domain_loss"]["code"]["mean"] > quarter["domain_loss"]["code"]["mean"]


def spoil(folder, tmp_path, name, change):
    copy = tmp_path / "spoiled"
    copy.mkdir()
    for path in folder.iterdir():
        text = path.read_text()
        (copy / path.name).write_text(change(text) if path.name == name else text)
    return copy


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("runs.csv", lambda t: t.replace("params,", "parms,"), ["runs.csv", "params"]),
        ("measurements.csv", lambda t: t.replace(",early,0.", ",early,3.", 1), ["measurements.csv", "line", "value"]),
        ("measurements.csv", lambda t: t.replace(",web,", ",web,-", 1), ["measurements.csv", "line", "value"]),
        ("measurements.csv", lambda t: t.replace(",web,3", ",web,nan", 1), ["measurements.csv", "line", "value"]),
        ("measurements.csv", lambda t: t + t.splitlines()[-1] + "\n", ["measurements.csv", "comes twice", "name"]),
        ("runs.csv", lambda t: "\n".join(t.splitlines()[:2]) + "\n", ["measurements.csv", "no such run"]),
    ],
)
def test_wrong_tables_are_refused_by_file_row_and_column(ladder_folder, tmp_path, capsys, name, change, words):
    folder = spoil(ladder_folder, tmp_path, name, change)
    for command in (["backtest", str(folder)], ["fit", str(folder)]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said


def test_ratios_that_do_not_sum_to_1_are_refused(mixture_folder, tmp_path, capsys):
    folder = spoil(mixture_folder, tmp_path, "runs.csv", lambda t: t.replace("0.1,0.9", "0.1,0.8", 1))
    assert main(["fit", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "runs.csv" in said
    assert "line" in said
    assert "ratio." in said


def test_one_run_is_refused(tmp_path, capsys):
    folder = write(tmp_path / "one", LadderWorld().records(SIZES[:1], 0, checkpoints=2))
    assert main(["backtest", str(folder)]) == 2
    assert "runs.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backtest", "FOLDER", "--method", "flpp"], "'flp'"),
        (["backtest", "FOLDER", "--domains", "wbe"], "'web'"),
        (["backtest", "FOLDER", "--tasks", "lat"], "'late'"),
        (["backtest", "NOWHERE"], "NOWHERE"),
        (["predict", "FOLDER", "--params", "0", "--tokens", "1e9"], "--params"),
        (["predict", "FOLDER", "--params", "1e9", "--tokens", "nan"], "--tokens"),
        (["predict", "FOLDER", "--params", "1e9", "--tokens", "1e9", "--ratio", "code"], "SOURCE=NUMBER"),
        (["predict", "FOLDER", "--params", "1e9", "--tokens", "1e9", "--ratio", "code=1"], "no source 'code'"),
        (["predict", "FOLDER", "--params", "1e9", "--tokens", "1e9", "--method", "gpt5"], "'gpt4'"),
        (["predict", "FOLDER/runs.csv", "--params", "1e9", "--tokens", "1e9"], "neither a folder"),
    ],
)
def test_wrong_questions_are_refused_with_the_way_out(arguments, words, ladder_folder, capsys):
    assert main([a.replace("FOLDER", str(ladder_folder)) for a in arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ([], "Give a --ratio"),
        (["code=0.5"], "must sum to 1"),
        (["code=1.5", "general=-0.5"], "outside 0 to 1"),
        (["law=1"], "no source 'law'"),
    ],
)
def test_wrong_ratios_are_refused(ratios, words, mixture_folder, capsys):
    ask = ["predict", str(mixture_folder), "--params", "1e9", "--tokens", "1e11"]
    assert main([*ask, *(part for r in ratios for part in ("--ratio", r))]) == 2
    assert words in capsys.readouterr().err


def test_a_saved_fit_keeps_its_domains(ladder_folder, tmp_path, capsys):
    kept = tmp_path / "fit.json"
    assert main(["fit", str(ladder_folder), "--out", str(kept)]) == 0
    assert main(["predict", str(kept), "--params", "1e9", "--tokens", "1e9", "--domains", "web"]) == 2
    assert "--domains cannot change a saved fit" in capsys.readouterr().err
    assert main(["predict", str(kept), "--params", "1e9", "--tokens", "1e9", "--method", "flp"]) == 2
    assert "It has: auto" in capsys.readouterr().err


def test_options_of_finished_runs_are_refused_for_a_study(tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text("study: x\n")
    assert main(["fit", str(study), "--method", "flp"]) == 2
    assert "folders of finished runs" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said(ladder_folder, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["fit", str(ladder_folder), "--out", str(blocked / "fit.json")]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_stops_nothing(ladder_folder, tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert main(["predict", str(ladder_folder), "--params", "1e9", "--tokens", "2e10"]) == 0
    assert "was not kept" in capsys.readouterr().out


def test_neither_torch_nor_ray_is_loaded(ladder_folder, tmp_path):
    code = (
        "import sys; from flp_ray.cli import main; "
        f"assert main(['backtest', {str(ladder_folder)!r}, '--method', 'flp', '--method', 'auto', '--json']) == 0; "
        f"assert main(['predict', {str(ladder_folder)!r}, '--params', '1e9', '--tokens', '2e10', '--json']) == 0; "
        "print({'torch', 'ray', 'transformers', 'pandas', 'optuna'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


def test_a_prediction_from_a_saved_fit_loads_neither_pyarrow_nor_deltalake(ladder_folder, tmp_path):
    kept = tmp_path / "fit.json"
    finished.fit_finished(ladder_folder, None, None, None, kept, None)
    code = (
        "import sys; from flp_ray.cli import main; "
        f"assert main(['predict', {str(kept)!r}, '--params', '1e9', '--tokens', '2e10']) == 0; "
        "print({'pyarrow', 'deltalake', 'matplotlib', 'torch', 'ray'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.strip() == "set()"
