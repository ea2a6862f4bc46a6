"""Text: sources, domains and the tokenizer become token blocks and items; the mixer orders them for a run.

fetch_texts(config, folder)                                     beforehand, for nodes that do not reach the hub
prepare_text(config, items, folder, seed=0) -> PreparedText     once a study
grow_text(kept, config, items, folder, seed=0) -> PreparedText  when it gains sources, domains or tasks
MixedStream(blocks, mixture, seed=0, sequences=n)               once a run, the same for any world size

Both preparations hand their work to `run_tasks` in pieces (`TextTask`) that may run anywhere.
"""

from flp_ray.data.fetch import fetch_texts
from flp_ray.data.grow import grow_text
from flp_ray.data.identity import PREPARATION, contents, source_settings, text_identity, tokenizer_id
from flp_ray.data.manifest import load_text, text_rate
from flp_ray.data.mixer import MixedStream
from flp_ray.data.prepare import prepare_text
from flp_ray.data.tasks import RunTasks, TextTask, run_here

__all__ = [
    "PREPARATION",
    "MixedStream",
    "RunTasks",
    "TextTask",
    "contents",
    "fetch_texts",
    "grow_text",
    "load_text",
    "prepare_text",
    "run_here",
    "source_settings",
    "text_identity",
    "text_rate",
    "tokenizer_id",
]
