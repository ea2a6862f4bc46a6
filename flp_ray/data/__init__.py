"""Text: sources, domains and the tokenizer become token blocks and items; the mixer orders them for a run.

prepare_text(config, items, folder, seed=0) -> PreparedText     once a study
grow_text(kept, config, items, folder, seed=0) -> PreparedText  when it gains sources, domains or tasks
MixedStream(blocks, mixture, seed=0, sequences=n)               once a run, the same for any world size
"""

from flp_ray.data.grow import grow_text
from flp_ray.data.identity import PREPARATION, contents, source_settings, text_identity, tokenizer_id
from flp_ray.data.manifest import load_text
from flp_ray.data.mixer import MixedStream
from flp_ray.data.prepare import prepare_text

__all__ = [
    "PREPARATION",
    "MixedStream",
    "contents",
    "grow_text",
    "load_text",
    "prepare_text",
    "source_settings",
    "text_identity",
    "tokenizer_id",
]
