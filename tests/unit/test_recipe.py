"""Recipes: YAML and overrides in, a complete and typed experiment out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import react_ray
from react_ray.clip.config import BackboneConfig
from react_ray.errors import ConfigError
from react_ray.recipe import Recipe, load_recipe
from react_ray.runtime.preflight import require
from react_ray.storage import Storage

VALUES: dict[str, Any] = {
    "name": "test",
    "database": "/tmp/database",
    "out": "/tmp/out",
    "backbone": {"name": "ViT-B-32"},
    "ingest": {"source": "sample://pool.parquet"},
}
SHIPPED = sorted((Path(react_ray.__file__).parent / "recipes").rglob("*.yaml"))


def write(folder: Path, name: str = "recipe.yaml", without: str = "", **changes: Any) -> str:
    values = {key: value for key, value in (VALUES | changes).items() if key != without}
    path = folder / name
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return str(path)


def mistake(path: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, list(overrides))
    return str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_of_the_package_loads_and_its_resolved_form_is_itself(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(path))
    (tmp_path / "recipe.yaml").write_text(recipe.yaml())
    again = load_recipe(str(tmp_path / "recipe.yaml"))
    assert again == recipe and again.yaml() == recipe.yaml()
    assert yaml.safe_load(recipe.yaml()).keys() == Recipe.model_fields.keys()  # complete: nothing is left to defaults


def test_the_package_has_recipes() -> None:
    assert "sample" in [path.stem for path in SHIPPED]


@pytest.mark.parametrize(
    "change, meant",
    [
        ({"customise": {}}, "customise: no such field; did you mean customize?"),
        ({"customize": {"lrr": 1}}, "customize.lrr: no such field; did you mean customize.lr?"),
        ({"customize": {"augment": {"rotation_deg": 1}}}, "did you mean customize.augment.rotate_deg?"),
        ({"index": {"zzzzzzzz": 1}}, "index.zzzzzzzz: no such field; index has "),
    ],
)
def test_an_unknown_key_says_which_was_meant_in_a_file_as_on_the_command_line(
    tmp_path: Path, change: dict[str, Any], meant: str
) -> None:
    assert meant in mistake(write(tmp_path, **change))
    path, value = "", change
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        path = f"{path}.{key}" if path else key
    assert meant in mistake(write(tmp_path), f"{path}=1")


@pytest.mark.parametrize(
    "override, shown",
    [
        ("customize.lr=fast", ["customize.lr: ", "number", "'fast'"]),
        ("customize.lr=-1", ["customize.lr: ", "greater than or equal to 0", "-1"]),
        ("customize.batch_size=1.5", ["customize.batch_size: ", "1.5"]),
        ("customize.method=gated", ["customize.method: ", "'gated-image'", "'gated'"]),
        ("customize=3", ["customize: ", "3"]),
        ("seed=", ["seed: ", "''"]),
        ("tasks.templates={}", ["tasks.templates: ", "list"]),
    ],
)
def test_a_wrong_value_says_the_field_what_is_allowed_what_was_given_and_what_to_do(
    tmp_path: Path, override: str, shown: list[str]
) -> None:
    message = mistake(write(tmp_path), override)
    assert all(text in message for text in shown)
    assert message.endswith(f"correct it in the recipe or write {override.partition('=')[0]}=...")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    assert mistake(write(tmp_path, without="backbone")).startswith("backbone: missing; add it to the recipe")


def test_a_recipe_that_evaluates_alone_needs_no_source_and_whatever_reads_one_names_it(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, without="ingest"))
    with pytest.raises(ConfigError, match=r"^ingest\.source: missing; add it to the recipe or write ingest\.source="):
        require(recipe, ["ingest"])


@pytest.mark.parametrize(
    "override, field, value",
    [
        ("seed=3", "seed", 3),
        ("customize.lr=1e-3", "customize.lr", 1e-3),
        ("customize.live_text=true", "customize.live_text", True),
        ("customize.augment.flip=0.5", "customize.augment.flip", 0.5),
        ("backbone.pretrained=", "backbone.pretrained", ""),
        ("ingest.source=s3://bucket/a=b", "ingest.source", "s3://bucket/a=b"),
        ("tasks.templates=['a {}', 'the {}, again']", "tasks.templates", ["a {}", "the {}, again"]),
        ("evaluate.datasets={a: x, b: y}", "evaluate.datasets", {"a": "x", "b": "y"}),
        ("evaluate.datasets.other=z", "evaluate.datasets", {"test": "t", "other": "z"}),
        (" customize.epochs =2", "customize.epochs", 2.0),
    ],
)
def test_an_override_is_a_dotted_path_and_a_yaml_value(tmp_path: Path, override: str, field: str, value: Any) -> None:
    found: Any = load_recipe(write(tmp_path, evaluate={"datasets": {"test": "t"}}), [override])
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "override, shown",
    [
        ("seed", "'seed' is not section.field=value; write for example seed=1"),
        ("seed.x=1", "seed.x: seed is a single value, it has no fields; write seed=..."),
        ("customize.lr.x=1", "customize.lr.x: lr is a single value"),
        ("tasks.names=[a", "tasks.names: '[a' is not YAML"),
        ("=1", "no such field"),
        ("customize..lr=1", "no such field"),
    ],
)
def test_an_override_that_cannot_be_meant_says_how_it_is_written(tmp_path: Path, override: str, shown: str) -> None:
    assert shown in mistake(write(tmp_path), override)


@pytest.mark.parametrize("section", [None, 3])
def test_an_override_into_a_section_that_the_file_left_empty_says_so(tmp_path: Path, section: Any) -> None:
    message = mistake(write(tmp_path, customize=section), "customize.lr=1")
    assert message.startswith(f"customize.lr: the recipe says customize: {section!r}")


def test_later_overrides_win(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    "text, shown", [("a: [", "not YAML"), ("- a", "mapping"), ("", "mapping"), ("\x00", "not YAML")]
)
def test_a_file_that_is_no_recipe_says_so(tmp_path: Path, text: str, shown: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert shown in mistake(str(tmp_path / "recipe.yaml"))


def test_a_recipe_is_its_base_with_changes_field_by_field(tmp_path: Path) -> None:
    arms = {"one": {"customize.lr": 0.1}}
    write(tmp_path, "base.yaml", customize={"lr": 0.5, "augment": {"flip": 0.5, "shear": 0.1}}, seed=1, arms=arms)
    child = {"base": "base.yaml", "seed": 2, "customize": {"augment": {"flip": 0.25}}, "arms": {"two": {}}}
    (tmp_path / "child.yaml").write_text(yaml.safe_dump(child))
    recipe = load_recipe(str(tmp_path / "child.yaml"), ["customize.augment.shear=0.2"])
    assert (recipe.name, recipe.seed, recipe.customize.lr) == ("test", 2, 0.5)
    assert (recipe.customize.augment.flip, recipe.customize.augment.shear) == (0.25, 0.2)
    assert recipe.arms == {"two": {}}  # arms are taken as a whole
    child["base"] = str(tmp_path / "base.yaml")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "child.yaml").write_text(yaml.safe_dump(child))
    assert load_recipe(str(tmp_path / "folder" / "child.yaml"), ["customize.augment.shear=0.2"]) == recipe


def test_a_base_lies_beside_its_recipe_wherever_that_is(place: Storage) -> None:
    place.write("base.yaml", yaml.safe_dump(VALUES).encode())
    place.write("child.yaml", b"base: base.yaml\nseed: 5\n")
    recipe = load_recipe(f"{place.uri}/child.yaml")
    assert (recipe.name, recipe.seed) == ("test", 5)


def test_a_base_of_a_base_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", base="grandparent.yaml")
    (tmp_path / "child.yaml").write_text("base: base.yaml")
    assert "merge the two" in mistake(str(tmp_path / "child.yaml"))


def test_an_arm_is_the_recipe_with_its_overrides_in_a_folder_of_its_own(tmp_path: Path) -> None:
    arms = {"slow": {"customize.lr": 1e-5, "retrieve.k": 3}, "plain": {}}
    recipe = load_recipe(write(tmp_path, arms=arms, customize={"lr": 0.5, "epochs": 2}))
    slow, plain = recipe.arm("slow"), recipe.arm("plain")
    assert recipe.arm_names() == ["slow", "plain"]
    assert (slow.out, plain.out) == ("/tmp/out/arms/slow", "/tmp/out/arms/plain")
    assert (slow.customize.lr, slow.customize.epochs, slow.retrieve.k) == (1e-5, 2, 3)
    assert plain == recipe.model_copy(update={"arms": {}, "out": plain.out})
    assert recipe.customize.lr == 0.5
    assert not recipe.shares_retrieval("slow") and recipe.shares_retrieval("plain")


def test_a_recipe_without_arms_is_its_own_only_arm(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    assert recipe.arm_names() == [""] and recipe.arm("") is recipe and recipe.shares_retrieval("")


@pytest.mark.parametrize("name", ["Gated", "1st", "a-b", "a b", "", "base"])
def test_an_arm_whose_name_cannot_be_a_folder_or_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    assert mistake(write(tmp_path, arms={name: {}})).startswith(f"arms.{name}: ")


@pytest.mark.parametrize("path, shown", [("customize.lrr", "did you mean customize.lr?"), ("customize.lr", "not 'x'")])
def test_a_mistake_in_an_arm_is_found_when_the_recipe_is_loaded(tmp_path: Path, path: str, shown: str) -> None:
    assert shown in mistake(write(tmp_path, arms={"one": {path: "x"}}))


def test_an_arm_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, arms={"one": {"customize.lr": 0.1}})
    recipe = load_recipe(path, ["arms.one.customize.lr=0.2", "arms.two.customize.augment.flip=0.5", "arms.three={}"])
    assert recipe.arms == {"one": {"customize.lr": 0.2}, "two": {"customize.augment.flip": 0.5}, "three": {}}
    assert recipe.arm("two").customize.augment.flip == 0.5
    assert load_recipe(path, ["arms={}"]).arms == {}


def test_arms_share_a_base_for_each_backbone_that_is_customised(tmp_path: Path) -> None:
    large = {"customize.backbone.name": "ViT-L-14", "customize.backbone.pretrained": "openai"}
    arms = {
        "large": large,
        "plain": {},
        "larger": large | {"customize.lr": 0.1},
        "huge": {"customize.backbone": {"name": "ViT-H-14"}},
    }
    recipe = load_recipe(write(tmp_path, arms=arms))
    assert recipe.arm("large").customized == BackboneConfig(name="ViT-L-14", pretrained="openai")
    assert recipe.arm("plain").customized == recipe.arm("large").backbone == recipe.backbone
    assert {name: base.name for name, base in recipe.bases().items()} == {
        "base": "ViT-B-32",
        "base.large": "ViT-L-14",
        "base.huge": "ViT-H-14",
    }
    assert [recipe.base_of(arm) for arm in arms] == ["base.large", "base", "base.large", "base.huge"]
    alone = load_recipe(write(tmp_path, customize={"backbone": {"name": "ViT-L-14"}}))
    assert (
        alone.bases() == {"base": alone.customized}
        and alone.base_of("") == "base"
        and alone.backbone.name == "ViT-B-32"
    )


@pytest.mark.parametrize(
    "override, said",
    [
        (
            "customize.backbone.pretrained=openai",
            "customize.backbone: pretrained of a model without a name; set its name too, or make it {}",
        ),
        ("customize.backbone={name: RN50, tag: x}", "customize.backbone.tag: no such field; "),
        (
            "customize={method: linear, backbone: {name: RN50}}",
            "customize: method=linear reads the stored vectors, which are not RN50's; choose another method, or "
            "make customize.backbone {}",
        ),
    ],
)
def test_a_backbone_that_cannot_be_customised_is_one_line(tmp_path: Path, override: str, said: str) -> None:
    assert mistake(write(tmp_path), override).startswith(said)


def test_a_recipe_that_names_no_run_has_the_name_of_its_file_and_a_place_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {key: VALUES[key] for key in ("backbone", "ingest")}
    (tmp_path / "herons.v2.yaml").write_text(yaml.safe_dump(values))

    def places(*overrides: str) -> tuple[str, str, str]:
        recipe = load_recipe("herons.v2.yaml", list(overrides))
        return recipe.name, recipe.out, recipe.database

    run = f"{tmp_path}/runs/herons.v2"
    assert places() == ("herons.v2", run, f"{run}/database")
    assert places("name=egrets") == ("egrets", f"{tmp_path}/runs/egrets", f"{tmp_path}/runs/egrets/database")
    assert places("out=s3://b/run") == ("herons.v2", "s3://b/run", "s3://b/run/database")
    assert places("database=web", "out=") == ("herons.v2", run, f"{tmp_path}/web")


def test_where_and_how_wide_are_not_digested(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path))
    moved = load_recipe(
        write(tmp_path), ["out=/elsewhere", "database=s3://b/d", "cluster.num_cpus=8", "embed.batch_size=3"]
    )
    assert isinstance(recipe, Recipe) and recipe != moved and recipe.digested() == moved.digested()
    assert load_recipe(write(tmp_path), ["seed=1"]).digested() != recipe.digested()
