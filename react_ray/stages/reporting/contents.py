"""Gathers the contents of the report's page from whatever artifacts of a run exist.

Next: comparing.py, which fills in what the scores say.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from react_ray.artifact import Artifact, open_artifact
from react_ray.clip.identity import short_name, tag_of
from react_ray.errors import ArtifactMissing
from react_ray.evals.pixels import SIZE
from react_ray.gated.config import runs_no_model
from react_ray.kinds import EMBEDDINGS, FEATURES, IMAGES, INDEX, MODEL, PAIRS, PREDICTIONS, RETRIEVED, Kind
from react_ray.manifest import MANIFEST
from react_ray.pairs.retrieval import open_retrieval
from react_ray.progress import Metrics
from react_ray.recipe import BASE, Recipe
from react_ray.report.data import Cost, ReportData, StageRow
from react_ray.runtime.layout import HEAD, PIXELS, PIXELS_LABELLED, Layout, models
from react_ray.stages.evaluating.all_scores import all_scores, score_gains
from react_ray.stages.reporting.advice import advice
from react_ray.stages.reporting.comparing import compare, shown_arm
from react_ray.stages.reporting.label_curves import label_curves
from react_ray.stages.reporting.outcomes import shown_name
from react_ray.stages.reporting.steps import next_step, steps_of
from react_ray.stages.reporting.summary import Costs, read_summary
from react_ray.stages.showing.gallery import few_classes
from react_ray.storage import join, open_storage

WITH_LABELS = " (labelled images)"  # ends the label of a row that learned from customize.labelled
LABELS = {
    BASE: "base CLIP",
    "random": "random pairs",
    "string_match": "string match",
    "locked_text": "locked-text",
    "gated_image": "gated-image",
    PIXELS: f"1-NN on {SIZE}x{SIZE} pixels",
    PIXELS_LABELLED: f"1-NN on {SIZE}x{SIZE} pixels + labels",
}


def gather(recipe: Recipe, costs: Costs) -> ReportData:
    """Returns everything that the page shows. ArtifactMissing if nothing of the recipe exists yet."""
    steps = steps_of(recipe)
    if all(step.state == "open" for step in steps):
        raise ArtifactMissing(f"{recipe.out}: there is nothing to report yet; begin with `react-ray run RECIPE`")
    following = next_step(recipe, steps)
    storage = open_storage(recipe.out)
    rows = {shown_name(name): name.removesuffix(HEAD) for name in models(recipe) if name not in recipe.bases()}
    bases = {row: recipe.base_of(arm) for row, arm in rows.items()}
    data = ReportData(
        name=recipe.name,
        seed=recipe.seed,
        labels=_labels(recipe, bases),
        bases=bases,
        controls=tuple(row for row, arm in rows.items() if recipe.arm(arm).retrieve.selection != "hits"),
        fixed=tuple(
            r for r, arm in rows.items() if r.endswith(HEAD) or runs_no_model(recipe.arm(arm).customize.method)
        ),
        references=(PIXELS, PIXELS_LABELLED),
        labelled=(PIXELS_LABELLED,),
        label_curves=label_curves(recipe),
        costs={row: _cost(recipe, arm, row.endswith(HEAD)) for row, arm in rows.items()},
        off_target=tuple(recipe.evaluate.off_target),
        other_seeds=[read_summary(uri) for uri in recipe.evaluate.other_runs],
        steps=steps if following else [],
        next_step=following,
        facts=_facts(recipe, costs),
        curves={arm or "customized": Metrics(storage, f"train-{arm or 'model'}").rows() for arm in recipe.arm_names()},
        scores=all_scores(recipe),
        score_gains=score_gains(recipe),
        stages=_stages(recipe, costs.seconds),
        recipe_yaml=recipe.yaml(),
        notes=_notes(recipe),
    )
    compare(recipe, data)
    with suppress(ArtifactMissing):  # nothing has been retrieved so far
        root = Layout(recipe, shown_arm(recipe, data.best_arm)).retrieved_root()
        data.gallery = few_classes(open_retrieval(root))
    data.gallery_hint = f"Every class has its pictures in gallery.html, which `react-ray show {recipe.out}` writes."
    data.advice = advice(recipe, data)
    return data


def _labels(recipe: Recipe, bases: dict[str, str]) -> dict[str, str]:
    """Returns the label of each row: a base followed by its arms, then heads, then what is no model."""
    labels = {}
    for base, backbone in recipe.bases().items():
        named = f"base {short_name(backbone)} {tag_of(backbone)}".strip()
        labels[base] = LABELS[BASE] if len(recipe.bases()) == 1 else named
        labels |= {row: LABELS.get(row, row) for row, of in bases.items() if of == base and not row.endswith(HEAD)}
    for row in bases:
        if row.endswith(HEAD):
            labels[row] = f"{labels[row.removesuffix(HEAD)]} + head"
    for row in bases:
        arm = row.removesuffix(HEAD)
        config = recipe.arm(arm if arm in recipe.arms else "").customize
        if config.mixes_labels or (config.labelled and row.endswith(HEAD)):
            labels[row] += WITH_LABELS
    return labels | {row: LABELS[row] for row in (PIXELS, PIXELS_LABELLED)}


def _cost(recipe: Recipe, arm: str, with_head: bool) -> Cost:
    """What an arm's training took, which is its own although one stage trains all arms; a head comes on top. Image
    vectors that were made for the arm count for each arm that needs them."""
    layout = Layout(recipe, arm)
    kinds = ("model", "features", "head") if with_head else ("model",)
    uris = [layout.of_arm(kind) for kind in kinds]
    if runs_no_model(recipe.arm(arm).customize.method) and _found(layout.image_vectors(), EMBEDDINGS):
        uris.append(layout.image_vectors())
    if not all(open_storage(uri).exists(MANIFEST) for uri in uris):
        return Cost()
    made = [open_artifact(uri).manifest for uri in uris]
    kept = [one for one in made if one.kind not in (FEATURES.name, EMBEDDINGS.name)]  # read by trainings alone
    return Cost(sum(one.seconds for one in made), sum(one.bytes for one in kept))


def _found(uri: str, kind: Kind[Any]) -> Artifact[Any] | None:
    """Returns a finished artifact, None if it does not exist."""
    return open_artifact(uri, kind) if open_storage(uri).exists(MANIFEST) else None


def _facts(recipe: Recipe, costs: Costs) -> list[tuple[str, str]]:
    layout = Layout(recipe)
    facts = []
    if pairs := _found(layout.database("pairs"), PAIRS) or _found(layout.database("images"), IMAGES):
        facts.append(("pool", f"{pairs.rows:,} pairs"))
    if embeddings := _found(layout.database("embeddings"), EMBEDDINGS):
        backbone = embeddings.facts.backbone
        facts.append(("backbone", f"{backbone['name']}, weights {backbone['weights_sha256'][:12]}"))
    if recipe.evaluate.wise_ft != 1:
        facts.append(("WiSE-FT", f"customised models are scored at weight {recipe.evaluate.wise_ft:g}"))
    others = {short_name(backbone): "" for backbone in recipe.bases().values() if backbone != recipe.backbone}
    facts += [("customised", ", ".join(others))] if others else []
    for arm in recipe.arm_names():
        if retrieved := _found(join(Layout(recipe, arm).retrieved_root(), "retrieved"), RETRIEVED):
            facts.append((f"pairs for {LABELS.get(arm, arm or 'training')}", f"{retrieved.rows:,}"))
    if costs.seconds:
        facts.append(("wall clock", f"{sum(costs.seconds.values()):,.0f} s"))
    if peak := costs.peak_rss_gb.get("all"):
        facts.append(("peak memory", f"{peak:.1f} GB"))
    return facts


def _stages(recipe: Recipe, seconds: dict[str, float]) -> list[StageRow]:
    layout = Layout(recipe)
    rows = []

    def add(stage: str, uri: str, kind: Kind[Any], wall: str) -> None:
        if artifact := _found(uri, kind):
            manifest = artifact.manifest
            spent = seconds.get(wall, manifest.seconds)
            rows.append(StageRow(stage, manifest.parts, manifest.rows, manifest.ok, manifest.bytes, spent))

    listed = _found(layout.database("pairs"), PAIRS)
    if listed and recipe.download.of == "pairs":
        add("ingest", layout.database("pairs"), PAIRS, "ingest")
        add("download", layout.database("images"), IMAGES, "download")
    else:
        add("ingest", layout.database("pairs" if listed else "images"), PAIRS if listed else IMAGES, "ingest")
    add("embed", layout.database("embeddings"), EMBEDDINGS, "embed")
    add("index", layout.database("index"), INDEX, "index")
    add("retrieve", layout.of_run("retrieved"), RETRIEVED, "retrieve")
    for arm in recipe.arm_names():
        # The time is the arm's own, since one stage trains all arms.
        add(f"customize {arm}".strip(), Layout(recipe, arm).of_arm("model"), MODEL, "")
    add("evaluate", layout.of_run("scores/base"), PREDICTIONS, "evaluate")
    return rows


def _notes(recipe: Recipe) -> list[str]:
    """Returns the lines that `retrieve` and `customize` printed; selection.json has the details."""
    roots = {Layout(recipe, arm).retrieved_root(): arm for arm in reversed(recipe.arm_names())}
    notes = []
    for root, arm in reversed(roots.items()):
        if retrieved := _found(join(root, "retrieved"), RETRIEVED):
            label = "random pairs" if recipe.arm(arm).retrieve.selection == "random" else "retrieved"
            notes += [f"{label}: {line}" for line in retrieved.facts.summary]
    with_labels = [arm for arm in recipe.arm_names() if recipe.arm(arm).customize.labelled]
    for root in dict.fromkeys(Layout(recipe, arm).labelled_root() for arm in with_labels):
        if labelled := _found(join(root, "retrieved"), RETRIEVED):
            notes += [f"labelled: {line}" for line in labelled.facts.summary]
    for arm in recipe.arm_names():
        if model := _found(Layout(recipe, arm).of_arm("model"), MODEL):
            notes += [f"{LABELS.get(arm, arm or 'customized')}: {line}" for line in model.facts.summary]
    for row in (PIXELS, PIXELS_LABELLED):
        if scores := _found(Layout(recipe).scores(row), PREDICTIONS):
            notes.append(f"{LABELS[row]}: compares with {scores.facts.fitted.get('num_pairs', 0):,} pictures.")
    return notes
