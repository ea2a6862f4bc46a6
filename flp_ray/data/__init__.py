"""Text: sources, domains and the tokenizer become token blocks and items; the mixer orders them for a run.

prepare_text(config, items, folder, seed=0) -> PreparedText     once a study
MixedStream(blocks, mixture, seed=0, sequences=n)               once a run, the same for any world size
"""

from flp_ray.data.identity import settings_hash, text_id
from flp_ray.data.manifest import load_text
from flp_ray.data.mixer import MixedStream
from flp_ray.data.prepare import prepare_text

__all__ = ["MixedStream", "load_text", "prepare_text", "settings_hash", "text_id"]
