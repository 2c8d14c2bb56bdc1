"""Promises of clusters/: its files fit what reads them, serve every role, agree on versions, and give nothing away."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import ray.autoscaler
import yaml
from botocore.validate import ParamValidator
from ray.serve._private import constants
from ray.serve.schema import ServeDeploySchema

from react_ray.recipe import ClusterConfig, Recipe, load_recipe
from react_ray.runtime.placement import ROLE_LABEL, placement

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
AWS = yaml.safe_load((CLUSTERS / "aws.yaml").read_text())
RAYCLUSTER = next(
    d for d in yaml.safe_load_all((CLUSTERS / "kuberay/raycluster.yaml").read_text()) if d["kind"] == "RayCluster"
)
RAYSERVICE = next(
    d for d in yaml.safe_load_all((CLUSTERS / "kuberay/rayservice.yaml").read_text()) if d["kind"] == "RayService"
)
SERVED = RAYSERVICE["spec"]["rayClusterConfig"]
RAYJOB = yaml.safe_load((CLUSTERS / "kuberay/rayjob.yaml").read_text())
GROUPS = {group["groupName"]: group for group in RAYCLUSTER["spec"]["workerGroupSpecs"]}
TEXTS = {path: path.read_text() for path in sorted(CLUSTERS.rglob("*")) if path.is_file()}


def roles_of_stages() -> set[str]:
    """Every role that some stage asks for: the second argument of placement(), actor_pool() and thread_pool()."""
    roles = set()
    for path in (ROOT / "react_ray/stages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "placement",
                "actor_pool",
                "thread_pool",
            ):
                role = node.args[1]
                if isinstance(role, ast.Constant):
                    roles.add(role.value)
    return roles


def pods() -> list[dict[str, Any]]:
    templates = [RAYCLUSTER["spec"]["headGroupSpec"]["template"], RAYJOB["spec"]["submitterPodTemplate"]]
    templates += [SERVED["headGroupSpec"]["template"], *(group["template"] for group in SERVED["workerGroupSpecs"])]
    return [template["spec"] for template in templates + [group["template"] for group in GROUPS.values()]]


def test_the_aws_file_fits_the_schema_of_ray() -> None:
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    jsonschema.validate(AWS, json.loads(schema.read_text()))


@pytest.mark.parametrize("node_type", AWS["available_node_types"])
def test_ec2_knows_every_field_of_a_node_type(node_type: str) -> None:
    request = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    wanted = AWS["available_node_types"][node_type]["node_config"] | {"MinCount": 1, "MaxCount": 1}
    assert ParamValidator().validate(wanted, request).generate_report() == ""


def test_every_role_of_the_stages_has_nodes_on_both_kinds_of_cluster() -> None:
    roles = roles_of_stages()
    assert roles == {"fetch", "embed", "index", "train"}
    for role in roles:
        label = placement(ClusterConfig(roles=True), role)["label_selector"]
        assert AWS["available_node_types"][role]["labels"] == label
        assert GROUPS[role]["labels"] == label
        assert AWS["available_node_types"][role]["max_workers"] > 0
        assert GROUPS[role]["maxReplicas"] > 0


def test_the_head_runs_no_tasks_and_idle_roles_cost_nothing() -> None:
    head = AWS["available_node_types"][AWS["head_node_type"]]
    assert (head["labels"], head["resources"]["CPU"]) == ({ROLE_LABEL: "head"}, 0)
    group = RAYCLUSTER["spec"]["headGroupSpec"]
    assert (group["labels"], group["resources"]["CPU"]) == ({ROLE_LABEL: "head"}, "0")
    for role, node_type in GROUPS.items():
        assert node_type["minReplicas"] == node_type["replicas"] == 0
        assert AWS["available_node_types"][role]["min_workers"] == 0


def test_groups_carry_labels_where_the_autoscaler_reads_them() -> None:
    """KubeRay refuses `labels` in rayStartParams, and only the second autoscaler starts nodes by label."""
    assert RAYCLUSTER["spec"]["autoscalerOptions"]["version"] == "v2"
    for group in [RAYCLUSTER["spec"]["headGroupSpec"], *GROUPS.values()]:
        assert group["rayStartParams"] == {}


def test_the_served_application_fits_ray_serve_and_its_arguments_are_fields() -> None:
    [app] = ServeDeploySchema(**yaml.safe_load(RAYSERVICE["spec"]["serveConfigV2"])).applications
    module, _, name = app.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    values = {field: value for field, value in app.args.items() if field != "recipe"}
    recipe = load_recipe("recipes://sample.yaml", [f"{field}={value}" for field, value in values.items()])
    assert app.args["recipe"].startswith("s3://") and recipe.cluster.roles and recipe.serve.api_key_env
    assert recipe.serve.min_replicas < recipe.serve.max_replicas
    labels = {group["groupName"]: group["labels"] for group in SERVED["workerGroupSpecs"]}
    assert labels == {role: {ROLE_LABEL: role} for role in ("embed", "index")}
    for group in (SERVED["headGroupSpec"], *SERVED["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        key, *of_serve = container["env"]
        assert key["name"] == recipe.serve.api_key_env
        assert [one["value"] for one in of_serve] == ["1", "1", "conn-failure empty-response"]
        assert all(hasattr(constants, one["name"]) for one in of_serve)
    assert SERVED["autoscalerOptions"]["version"] == "v2" and SERVED["authOptions"] == {"mode": "token"}


def test_one_version_of_ray_everywhere() -> None:
    version = RAYCLUSTER["spec"]["rayVersion"]
    assert SERVED["rayVersion"] == version
    assert f"ARG RAY_VERSION={version}\n" in TEXTS[CLUSTERS / "Dockerfile"]
    assert any(command.endswith(f"ray=={version}") for command in AWS["setup_commands"])


def test_one_image_for_all_pods() -> None:
    assert len({container["image"] for pod in pods() for container in pod["containers"]}) == 1


def test_clusters_ask_for_a_token_and_keep_their_dashboard_inside() -> None:
    assert RAYCLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert RAYCLUSTER["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    starts = [AWS["head_start_ray_commands"][-1], AWS["worker_start_ray_commands"][-1]]
    assert all("export RAY_AUTH_MODE=token;" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert not [path for path, text in TEXTS.items() if path.suffix == ".yaml" and "0.0.0.0" in text]


def test_pods_and_image_run_without_root() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert re.findall(r"^USER (.*)", TEXTS[CLUSTERS / "Dockerfile"], re.MULTILINE)[-1] == "1000"


def test_no_file_holds_a_credential() -> None:
    secret = re.compile(
        r"""AKIA[0-9A-Z]{12,}|aws_secret_access_key|PRIVATE KEY|RAY_AUTH_TOKEN\s*[=:]\s*["']?\w""", re.IGNORECASE
    )
    assert secret.search("RAY_AUTH_TOKEN='4f1c'") and not secret.search('RAY_AUTH_TOKEN="$(kubectl get secret)"')
    assert [path for path, text in TEXTS.items() if secret.search(text)] == []


def test_files_and_recipe_fields_that_are_named_exist() -> None:
    mentioned = {
        path
        for text in TEXTS.values()
        for path in re.findall(r"\b(?:clusters|jobs)/[\w/.]+\.(?:yaml|py)|clusters/Dockerfile", text)
    }
    assert {"clusters/aws.yaml", "jobs/react.py"} <= mentioned
    assert [path for path in sorted(mentioned) if not (ROOT / path).exists()] == []
    commands = "\n".join(TEXTS.values())
    fields = {match for match in re.findall(r"\b(cluster|customize)\.(\w+)=", commands)}
    assert ("cluster", "roles") in fields
    for section, field in sorted(fields):
        model: Any = Recipe.model_fields[section].annotation
        assert field in model.model_fields, f"{section}.{field}"


def test_contributing_gives_a_reason_for_every_dependency() -> None:
    """Names are taken from the lists of pyproject.toml line by line: tomllib begins with Python 3.11."""
    project = (ROOT / "pyproject.toml").read_text().split("[project.scripts]")[0]
    lists = re.findall(r"^(?:dependencies|dev) = \[(.*?)\]$", project, re.MULTILINE | re.DOTALL)
    names = {name for text in lists for name in re.findall(r'"([A-Za-z0-9_-]+)', text)}
    assert {"ray", "torch", "pytest"} <= names
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Dependencies")[1]
    listed = {name for row in table.splitlines() for name in re.findall(r"(?:^\| |, )([A-Za-z0-9_-]+)(?=[^|]*\|)", row)}
    assert names - listed == set()
