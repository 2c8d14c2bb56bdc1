"""What a recipe may not ask of a training, found before anything starts. Next: train_worker.py."""

from __future__ import annotations

from react_ray.errors import ConfigError
from react_ray.gated.config import CustomizeConfig
from react_ray.gated.zero import deepspeed_config
from react_ray.recipe import Recipe


def check_workers(config: CustomizeConfig) -> None:
    """What DeepSpeed or the loader would refuse, it refuses before anything starts."""
    if config.min_workers > config.num_workers:
        raise ConfigError(f"customize.min_workers={config.min_workers} is more than num_workers={config.num_workers}; lower it")
    for number in range(config.min_workers or config.num_workers, config.num_workers + 1):
        deepspeed_config(config, number)
        if config.batch_size % number:
            raise ConfigError(
                f"customize.batch_size {config.batch_size} is not a multiple of {number} workers; change one of them"
            )


def check_watching(recipe: Recipe) -> None:
    name, keep = recipe.customize.watch_dataset, recipe.customize.keep
    known = recipe.evaluate.datasets
    if keep == "best" and not name:
        raise ConfigError("customize.keep=best needs a measure of it; set customize.watch_dataset to one of evaluate.datasets")
    if name and name not in known:
        raise ConfigError(f"customize.watch_dataset={name} is none of evaluate.datasets ({', '.join(known) or 'empty'}); name one of them")
    if keep == "best" and name == recipe.evaluate.headline:
        raise ConfigError(
            f"customize.keep=best would choose by {name}, which the report shows: it would flatter; watch another dataset, or set evaluate.headline to another"
        )
