"""Where a study lives, and the mirror of one that lives on an object store."""

from pathlib import Path

import pytest

from flp_ray.cli import main
from flp_ray.config import StudyPlace, study_place
from flp_ray.mirror import Mirror, bring_study, put_study
from flp_ray.store import FolderLock, TableWriter, files_at, mount, stage_row, storage_uri
from tests.store.object_store import BUCKET, credentials, new_address, s3_server

JOBS = Path(__file__).parent.parent / "jobs"


@pytest.fixture(scope="module")
def server():
    with s3_server() as endpoint:
        yield credentials(endpoint)


@pytest.fixture
def address(server, monkeypatch) -> str:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return new_address()


@pytest.mark.parametrize(
    ("base", "where", "expected"),
    [
        ("", "/shared/runs/a", StudyPlace(Path("/shared/runs/a"), None)),
        ("/shared", "runs/a", StudyPlace(Path("/shared/runs/a"), None)),
        ("s3://b/p/", "/shared/runs/a", StudyPlace(Path("/shared/runs/a"), None)),
    ],
)
def test_a_path_is_the_study_itself(base, where, expected, monkeypatch):
    monkeypatch.setenv("FLP_RAY_STORAGE", base)
    assert study_place(where, "a") == expected


@pytest.mark.parametrize(
    ("base", "where", "uri"),
    [
        ("", "s3://b/runs/a", "s3://b/runs/a"),
        ("s3://b/p/", "runs/a", "s3://b/p/runs/a"),
        ("gs://b", "runs/a", "gs://b/runs/a"),
        ("s3://b/p", "s3://other/a/", "s3://other/a"),
    ],
)
def test_a_uri_has_a_mirror_of_its_own_on_this_machine(base, where, uri, monkeypatch, tmp_path):
    monkeypatch.setenv("FLP_RAY_STORAGE", base)
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path))
    place = study_place(where, "a")
    assert place.uri == uri
    assert place.folder.parent == tmp_path
    assert study_place("s3://b/runs/b", "a").folder != place.folder


def test_small_files_go_to_the_store_and_to_another_mirror_and_nothing_else_does(address, tmp_path):
    here, there = (StudyPlace(tmp_path / name, address) for name in ("here", "there"))
    folder = bring_study(here)
    assert folder == here.folder
    assert storage_uri(folder) == address
    kept = {"study.yaml": "study: a", "text/x/items/t.jsonl": "{}", "text/text.json": "{}"}
    passed_over = {"tables/writer.lock": "", "checkpoints/r/state": "", "text/x/work/a": "", ".draft": "", "a.tmp": ""}
    for name, text in (kept | passed_over | {"text/x/sources/code.npy": "blocks"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    mirror = Mirror(folder)
    mirror.put()
    assert set(files_at(address).names("")) == {*kept, "text/x/sources/code.npy"}
    (folder / "study.yaml").write_text("study: b")
    mirror.put()
    bring_study(there)
    found = {p.relative_to(there.folder).as_posix(): p.read_text() for p in there.folder.rglob("*") if p.is_file()}
    for own in ("storage.json", "writer.lock", "locks/mirror/writer.lock", ".brought.json"):
        del found[own]
    assert found == kept | {"study.yaml": "study: b"}  # blocks are brought by those who train on them


def test_a_bucket_that_is_not_there_is_refused_and_a_study_without_runs_has_a_status(
    address, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path))
    assert main(["plan", str(JOBS / "smoke.yaml"), "--study-dir", f"s3://{BUCKET}-that-is-not-there/a"]) == 2
    assert "that-is-not-there" in capsys.readouterr().err
    assert main(["status", str(JOBS / "smoke.yaml"), "--json", "--study-dir", address]) == 0


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)


def stored(address: str, name: str, folder: Path) -> str:
    files_at(address).get(name, folder / "stored")
    return (folder / "stored").read_text()


def test_the_mirror_of_a_running_study_is_left_as_it_is(address, tmp_path):
    here = StudyPlace(tmp_path / "here", address)
    folder = bring_study(here)
    write(folder, journal="one")
    put_study(folder)
    write(folder, journal="one, two")
    running = FolderLock(folder, wait_seconds=0)
    bring_study(here)
    put_study(folder)
    assert (folder / "journal").read_text() == "one, two"
    assert stored(address, "journal", tmp_path) == "one"
    running.release()
    put_study(folder)
    assert stored(address, "journal", tmp_path) == "one, two"


def test_a_file_of_the_same_size_is_brought_and_never_put_back(address, tmp_path):
    here, there = (StudyPlace(tmp_path / name, address) for name in ("here", "there"))
    for seed in ("seed: 1", "seed: 2"):
        write(bring_study(here), study=seed)
        put_study(here.folder)
        assert (bring_study(there) / "study").read_text() == seed
    mirror = Mirror(there.folder)
    write(here.folder, study="seed: 3")
    put_study(here.folder)
    mirror.put()
    assert stored(address, "study", tmp_path) == "seed: 3"


def test_a_report_goes_to_the_store(address, tmp_path, monkeypatch):
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path / "cache"))
    mount(tmp_path / "mirror", address)
    with TableWriter(tmp_path / "mirror") as writer:
        writer.append("stages", stage_row(session="s", stage="plan", seconds=1.0, started=1.0, peak_bytes=1))
    assert main(["report", str(JOBS / "smoke.yaml"), "--study-dir", address]) == 0
    assert "<html" in stored(address, "report.html", tmp_path)
