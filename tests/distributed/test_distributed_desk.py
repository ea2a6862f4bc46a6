"""The desk between trainings and evaluators, and what is handed over, without a cluster."""

import asyncio
import json
from contextlib import suppress
from types import SimpleNamespace

import pytest
import ray

from flp_ray.distributed import evaluators as module
from flp_ray.distributed.config import EvaluatorsConfig, ResourcesConfig
from flp_ray.distributed.desk import MOST_DEATHS, Desk, EvaluationJob
from flp_ray.distributed.evaluators import Handover
from flp_ray.distributed.resources import check_fits
from flp_ray.errors import ResourceError, StorageError
from flp_ray.train import TrainingCheckpoint
from tests.store.store_samples import SPEC


def job(tokens: int) -> EvaluationJob:
    return EvaluationJob(spec={}, run_id="r", tokens=tokens, train_loss=1.0, final=False)


async def soon(waiting):
    """What waits for an answer, a moment later."""
    task = asyncio.ensure_future(waiting)
    await asyncio.wait([task], timeout=0.05)
    return task


def test_what_failed_is_remembered_until_the_next_attempt_begins():
    async def story():
        desk = Desk(waiting=2)
        await desk.begin("r")
        for tokens, failure in ((100, "disk"), (200, None)):
            assert await desk.put(job(tokens)) is None
            assert (await desk.take("e")).tokens == tokens
            await desk.done("e", failure)
        assert await desk.wait("r") == "100 tokens: disk"
        await desk.begin("r")
        assert await desk.wait("r") is None

    asyncio.run(story())


@pytest.mark.parametrize("waiting", [1, 2])
def test_a_checkpoint_that_is_there_is_no_second_and_needs_no_room(waiting):
    async def story():
        desk, order = Desk(waiting), []
        await desk.put(job(100))
        assert (await desk.take("e")).tokens == 100
        assert await desk.has("r", 100)
        assert (await soon(desk.put(job(100)))).done()
        later = await soon(desk.put(job(200)))
        assert later.done() == (waiting == 2)
        await desk.done("e", None)
        assert await later is None
        assert not await desk.has("r", 100)
        order.append((await desk.take("e")).tokens)
        await desk.done("e", None)
        rest = await soon(desk.take("e"))
        assert order == [200] and not rest.done()
        rest.cancel()

    asyncio.run(story())


def test_a_checkpoint_that_kills_its_evaluator_again_and_again_fails_and_the_next_is_measured():
    async def story():
        desk = Desk(waiting=2)
        await desk.put(job(100))
        await desk.put(job(200))
        had = [(await desk.take("e")).tokens for _ in range(MOST_DEATHS + 1)]
        assert had == [100] * MOST_DEATHS + [200]
        await desk.done("e", None)
        assert "process died 3 times" in (await desk.wait("r") or "")

    asyncio.run(story())


def test_without_any_evaluator_nobody_waits_for_ever():
    async def story():
        desk = Desk(waiting=1, silent_seconds=0.3)
        assert await desk.put(job(100)) is None
        full = asyncio.ensure_future(desk.put(job(200)))
        for _ in range(4):
            await asyncio.sleep(0.1)
            await desk.alive()
        assert not full.done()  # somebody lives
        assert "no evaluator has given a sign of life" in (await full or "")
        assert "no evaluator" in (await desk.wait("r") or "")

    asyncio.run(story())


def test_evaluators_that_have_no_place_are_refused_unless_the_cluster_grows():
    node = {"CPU": 8.0, "GPU": 2.0}
    for asked in ({"cpus": 16}, {"gpus": 3}, {"count": 3, "gpus": 1}):
        config = ResourcesConfig(evaluators=EvaluatorsConfig(**asked))
        with pytest.raises(ResourceError, match=r"resources\.evaluators asks for .* have a place"):
            check_fits([node], config, 1)
        check_fits([node], config.model_copy(update={"max_workers": 4}), 1)
    check_fits([node], ResourcesConfig(evaluators=EvaluatorsConfig(count=2, gpus=1)), 1)


class Bucket:
    """Files of an object store, by name."""

    def __init__(self):
        self.files = {}

    def put(self, path, name):
        self.files[name] = path.read_bytes()

    def get(self, name, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[name])

    def names(self, prefix):
        return [name for name in sorted(self.files) if name.startswith(prefix)]

    def remove(self, prefix):
        for name in self.names(prefix):
            del self.files[name]


@pytest.fixture(params=["folder", "bucket"])
def handover(request, tmp_path, monkeypatch):
    """A run's handover, a desk that is called at once, and what the store has of the run."""
    bucket, recorded, desk, loop = Bucket(), set(), Desk(waiting=9), asyncio.new_event_loop()
    context = SimpleNamespace(
        study_dir=tmp_path,
        storage=lambda: bucket if request.param == "bucket" else None,
        run_dir=lambda run_id: tmp_path / run_id,
        run_prefix=lambda run_id: f"runs/{run_id}",
    )

    class Remote:
        def __getattr__(self, name):
            return SimpleNamespace(remote=lambda *given: loop.run_until_complete(getattr(desk, name)(*given)))

    monkeypatch.setattr(module, "_desk", lambda context: Remote())
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(
        module.RemoteWriter, "find", classmethod(lambda cls, folder: SimpleNamespace(ask=lambda *given: set(recorded)))
    )

    def export(model, folder):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(model)

    monkeypatch.setattr(module, "export_model", export)
    yield SimpleNamespace(give=Handover(SPEC, context), desk=desk, bucket=bucket, recorded=recorded, loop=loop)
    loop.close()


def checkpoint(tokens: int) -> TrainingCheckpoint:
    return TrainingCheckpoint(step=tokens, tokens=tokens, flops=1.0, train_loss=2.0, final=False)


def test_weights_are_handed_over_once_and_a_bucket_leaves_none_here(handover, tmp_path):
    handover.give.give(checkpoint(100), "first")
    handover.give.give(checkpoint(100), "second")  # it waits already: nobody may change what is being read
    weights = list(tmp_path.rglob("*.safetensors"))
    if handover.bucket.files:
        assert weights == [] and handover.bucket.files[f"runs/{SPEC.run_id}/measure/100/model.safetensors"] == b"first"
    else:
        assert [path.read_text() for path in weights] == ["first"]
    assert handover.loop.run_until_complete(handover.desk.take("e")).tokens == 100
    handover.recorded.add(100)
    handover.loop.run_until_complete(handover.desk.done("e", None))
    handover.give.give(checkpoint(100), "third")  # measured since the attempt began
    assert not handover.loop.run_until_complete(handover.desk.has(SPEC.run_id, 100))


@pytest.mark.parametrize("breaks", [False, True])
def test_an_evaluator_brings_text_and_weights_and_leaves_nothing_but_what_is_to_be_measured_again(
    handover, breaks, monkeypatch, tmp_path
):
    brought, appended, weights = [], [], tmp_path / SPEC.run_id / "measure" / "100" / "model.safetensors"

    class Measurer:
        def measure_folder(self, folder, spec, **what):
            assert brought == [()] and (folder / "model.safetensors").read_text() == "weights"
            if breaks:
                raise ValueError("the task broke")
            return []

    store = SimpleNamespace(ask=lambda *given: handover.recorded, append=lambda table, rows: appended.append(table))
    monkeypatch.setattr(module.RemoteWriter, "find", classmethod(lambda cls, folder: store))
    monkeypatch.setattr(module, "bring_text", lambda context, sources: brought.append(sources))
    monkeypatch.setattr(module, "measurer", lambda context: Measurer())
    handover.give.give(checkpoint(100), "weights")
    evaluator = module.Evaluator("e", handover.give.context)
    taken, in_bucket = handover.loop.run_until_complete(handover.desk.take("e")), bool(handover.bucket.files)
    if breaks:
        with pytest.raises(ValueError):
            evaluator._measure(taken)
        assert weights.exists() != in_bucket and bool(handover.bucket.files) == in_bucket
        return
    evaluator._measure(taken)
    assert appended == ["measurements"] and not weights.parent.exists() and not handover.bucket.files
    handover.recorded.add(100)
    evaluator._measure(taken)  # recorded since it was handed over
    assert appended == ["measurements"]


def test_another_attempt_hands_over_what_is_not_measured_and_removes_what_is(handover, tmp_path):
    for tokens in (100, 200):
        handover.give.give(checkpoint(tokens), "weights")
        handover.loop.run_until_complete(handover.desk.take("e"))
        handover.loop.run_until_complete(handover.desk.done("e", "the task broke"))
    assert "the task broke" in handover.loop.run_until_complete(handover.desk.wait(SPEC.run_id))
    handover.give.again({100})
    taken = handover.loop.run_until_complete(handover.desk.take("e"))
    assert (taken.tokens, taken.train_loss) == (200, 2.0)
    left = [name for name in handover.bucket.files if name.endswith("job.json")]
    with suppress(FileNotFoundError):
        left += [str(path) for path in tmp_path.rglob("job.json")]
    assert len(left) == 1 and "/200/" in left[0]
    assert all(json.loads(content) for name, content in handover.bucket.files.items() if name in left)


def test_a_description_that_cannot_be_read_now_is_not_passed_over_and_one_that_is_gone_is(handover, monkeypatch):
    handover.give.give(checkpoint(100), "weights")
    if not handover.bucket.files:
        pytest.skip("a folder's files are read where they are")

    def unreachable(name, path):
        raise StorageError("the bucket is away")

    monkeypatch.setattr(handover.bucket, "get", unreachable)
    with pytest.raises(StorageError, match="the bucket is away"):
        handover.give.again(set())
    listed = handover.bucket.names("runs")
    handover.bucket.files.clear()  # an evaluator removes it between the listing and the reading
    names = iter([listed, []])
    monkeypatch.setattr(handover.bucket, "names", lambda prefix: next(names))
    handover.give.again(set())
