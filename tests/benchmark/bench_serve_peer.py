"""Serves a FAISS index and captions by the back end of clip-retrieval 2.45, in its own venv; see bench_serve.py.

    python bench_serve_peer.py FOLDER PORT

FOLDER: image.index, and metadata/ with Arrow files, as clip-retrieval has them. Its models of texts are left out, which
no search by a vector needs.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

NAME = "made"


def back_end() -> Any:
    """The module alone: the package's own start imports its models, and torch with them."""
    package, spec = types.ModuleType("clip_retrieval"), importlib.util.find_spec("clip_retrieval")
    assert spec is not None and spec.submodule_search_locations is not None
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["clip_retrieval"] = package
    sys.modules["torch"] = types.ModuleType("torch")  # which a search imports, and by a vector does not use
    import clip_retrieval.clip_back as found  # type: ignore[import-not-found]

    return found


def main(folder: str, port: int) -> None:
    from flask import Flask
    from flask_restful import Api  # type: ignore[import-not-found]

    back = back_end()
    index = back.load_index(f"{folder}/image.index", enable_faiss_memory_mapping=True)
    metadata, _ = back.load_metadata_provider(folder, False, False, index, ["url", "caption"], use_arrow=True)
    nothing = dict.fromkeys(back.ClipResource.__dataclass_fields__)
    resource = back.ClipResource(
        **nothing
        | {
            "metadata_provider": metadata,
            "image_index": index,
            "columns_to_return": ["url", "caption"],
            "metadata_is_ordered_by_ivf": False,
        }
    )
    app = Flask(__name__)
    Api(app).add_resource(back.KnnService, "/knn-service", resource_class_kwargs={"clip_resources": {NAME: resource}})
    app.run(host="127.0.0.1", port=port, debug=False)  # as clip_back does


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
