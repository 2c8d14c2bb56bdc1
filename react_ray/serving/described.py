"""What a server says of itself: GET /v1/index and /readyz."""

from __future__ import annotations

import asyncio
from typing import Any

from react_ray.errors import ReactRayError
from react_ray.serving.refusal import GroupUnavailable, Refused
from react_ray.serving.rules import shown_per_class
from react_ray.serving.service import Service
from react_ray.serving.view import View


async def index_facts(service: Service, view: View) -> dict[str, Any]:
    database, config = view.database, service.config
    backbone = database.embeddings.facts.backbone
    replicas = await asyncio.gather(*(group.replicas() for group in service.groups))
    keys = {}
    for key, plan in view.plans.items():
        _, promised = database.key_search(key).params(10)
        keys[key] = {"vectors": sum(plan.num_vectors) + plan.num_scanned, "recall": promised}
    return {
        "database": database.uri,
        "name": service.recipe.name,
        "pairs": database.embeddings.rows,
        "deleted": len(database.deleted),
        "dim": database.embeddings.facts.dim,
        "backbone": {"name": backbone.get("name", ""), "tag": backbone.get("tag", "")},
        "kind": database.index.facts.kind if database.index is not None else "exact",
        "keys": keys,
        "groups": [
            {"name": one.name, "shards": one.shards, "bytes": one.bytes, "replicas": count}
            for one, count in zip(view.groups, replicas, strict=True)
        ],
        "index_version": str(view.stamp),
        "limits": {
            "k": config.max_k,
            "batch": config.max_batch,
            "body_mb": config.max_body_mb,
            "timeout_s": config.timeout_s,
        },
        "defaults": {"pairs_per_class": shown_per_class(service.recipe)},
        "columns": [{"name": field.name, "type": str(field.type)} for field in view.records.schema],
        "fetch_urls": config.fetch_urls,
        "image_hosts": config.image_hosts,
        "has_images": view.records.images_artifact is not None,
        "key_required": bool(config.api_key_env),
    }


async def ready(service: Service) -> dict[str, Any]:
    """Refused with 503 that names the first group which does not answer."""
    view = service.now
    for group in service.groups:
        try:
            await asyncio.wait_for(group.prepare(view.stamp), service.config.timeout_s)
        except (GroupUnavailable, asyncio.TimeoutError, ReactRayError) as error:
            said = str(error) if isinstance(error, GroupUnavailable) else f"{group.name} is not ready; ask again"
            raise Refused(said, 503, "not_ready", retry_s=2) from error
    return {"status": "ready", "index_version": str(view.stamp), "problem": service.problem or None}
