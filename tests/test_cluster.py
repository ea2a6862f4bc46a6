"""The files that start clusters: each against what its tool publishes, and every name that one takes from another."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli

from flp_ray.cli import parser
from flp_ray.distributed.config import ResourcesConfig

ROOT = Path(__file__).parent.parent
CLUSTER, JOBS = ROOT / "cluster", ROOT / "jobs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLOUDS = ["aws.yaml", "gcp.yaml"]
KUBERAY = ["kuberay-cluster.yaml", "kuberay-job.yaml"]
NAMED = [*sorted(CLUSTER.iterdir()), JOBS / "README.md", JOBS / "run_study.py", ROOT / "README.md"]
GUIDES = [CLUSTER / "README.md", JOBS / "README.md", ROOT / "README.md"]


def read(name):
    return (CLUSTER / name).read_text()


def load(name):
    return yaml.safe_load(read(name))


def name_of(path):
    return str(path.relative_to(ROOT))


# ---- names that are used in several files


def test_every_file_is_explained_and_every_file_that_is_named_is_there():
    guide = read("README.md")
    assert [path.name for path in CLUSTER.iterdir() if path.name not in guide and path.suffix != ".dockerignore"] == []
    table = (JOBS / "README.md").read_text()
    assert [path.name for path in JOBS.glob("*.yaml") if f"| `{path.name}` |" not in table] == []
    for path in NAMED:
        for name in re.findall(r"\b(?:jobs|cluster|tests)/[\w./-]*\w", path.read_text()):
            assert (ROOT / name).exists(), f"{name_of(path)} names {name}"
    for folder in (CLUSTER, JOBS):
        rows = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| `")]
        for name in re.findall(r"^\| `([\w.-]+)` \|", "\n".join(rows), re.M):
            assert (folder / name).exists(), f"{name_of(folder)}/README.md names {name}"


def test_nothing_of_one_machine_and_no_registry_of_anyone_is_named():
    for path in [*CLUSTER.iterdir(), JOBS / "README.md"]:
        assert not re.search(r"/work/|/root\b|(?<!registry\.example)\.com/flp-ray", path.read_text()), name_of(path)


def test_variables_of_ours_are_read_somewhere():
    code = "\n".join(path.read_text() for path in [*ROOT.glob("flp_ray/**/*.py"), JOBS / "run_study.py"])
    for path in NAMED:
        for name in set(re.findall(r"\bFLP_RAY_[A-Z_]+\b", path.read_text())):
            assert f'"{name}"' in code, f"{name_of(path)} names {name}, which no code reads"


def test_settings_of_studies_that_the_guides_name_exist():
    for guide in GUIDES[:2]:
        for name in re.findall(r"`resources\.(\w+)`", guide.read_text()):
            assert name in ResourcesConfig.model_fields


def test_one_ray_one_python_and_one_image_everywhere():
    [version] = re.findall(r"^ARG RAY_VERSION=(\S+)$", read("Dockerfile"), re.M)
    [wanted] = [d for d in PROJECT["dependencies"] if d.startswith("ray[")]
    assert version in SpecifierSet(wanted.partition("]")[2])
    clusters = [load("kuberay-cluster.yaml")["spec"], load("kuberay-job.yaml")["spec"]["rayClusterSpec"]]
    assert {spec["rayVersion"] for spec in clusters} == {version}
    [(major, minor)] = re.findall(r"^FROM rayproject/ray:\$\{RAY_VERSION\}-py(\d)(\d+)-gpu$", read("Dockerfile"), re.M)
    assert f"{major}.{minor}" in SpecifierSet(PROJECT["requires-python"])
    images = {image for path in CLUSTER.iterdir() for image in re.findall(r"registry\.\S+", path.read_text())}
    assert images == {f"registry.example.com/flp-ray:{PROJECT['version']}"}


# ---- commands


def commands_in(path):
    """Commands of a guide, word by word, from its indented blocks and its backticks."""
    text = path.read_text()
    code = [line[4:] for line in text.splitlines() if line.startswith("    ")] + re.findall(r"`([^`]+)`", text)
    for part in (part for piece in code for part in re.split(r"&&|;|\s#", piece)):
        try:
            words = [word.strip("[]") for word in shlex.split(part, comments=True)]
        except ValueError:
            continue  # not a command: an apostrophe in a table of output
        if words:
            yield words


def ray_command(words):
    """A command of Ray and its options: those before `--`."""
    command = ray_cli
    while words and not words[0].startswith("-") and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, [
        w.partition("=")[0] for w in words[: words.index("--") if "--" in words else None] if w[:2] == "--"
    ]


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def flp_ray_options(words):
    command, found = parser(), []
    while True:
        groups = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
        if not groups or not words:
            break
        assert words[0] in groups[0].choices, f"flp-ray has no {words[0]}"
        command = groups[0].choices[words.pop(0)]
        found.append(command)
    return {option for action in command._actions for option in action.option_strings}


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_commands_that_the_guides_give_exist_with_their_options(path):
    seen = set()
    for words in commands_in(path):
        while "=" in words[0] and len(words) > 1:  # variables before a command
            words.pop(0)
        if words[0] == "ray" and len(words) > 1 and not words[1].startswith("-"):
            command, options = ray_command(words[1:])
            assert command is not ray_cli, words
            assert set(options) <= options_of(command), words
            seen.add("ray")
            words = words[words.index("--") + 1 :] if "--" in words else []
        if words[:3] == ["python", "-m", "flp_ray"]:
            words = ["flp-ray", *words[3:]]
        if words[:1] == ["flp-ray"] and len(words) > 1:
            known = flp_ray_options(words[1:])
            assert {w for w in words if w.startswith("--")} <= known, words
            seen.add("flp-ray")
    assert seen == {"ray", "flp-ray"}


def test_the_check_of_commands_finds_what_is_not_there():
    command, options = ray_command(["job", "submit", "--no-wai", "--", "python", "--no-wait"])
    assert options == ["--no-wai"]
    assert not set(options) <= options_of(command)
    with pytest.raises(AssertionError, match="no runn"):
        flp_ray_options(["runn", "x"])


def ray_starts(text):
    """Options of every `ray start` and `ray symmetric-run` of a file."""
    text = re.sub(r"\\\n|\n(?=\s+--)", " ", text)
    for name, rest in re.findall(r"\bray (start|symmetric-run) (--[^\n;#]+)", text):
        yield name, ray_command([name, *shlex.split(rest)])[1]


@pytest.mark.parametrize("name", ["local.sh", "slurm.sbatch", *CLOUDS])
def test_ray_is_started_with_options_that_it_has_and_its_dashboard_on_loopback(name):
    starts = list(ray_starts(read(name)))
    assert starts
    known = options_of(ray_cli.commands["start"])
    for command, options in starts:
        if command == "symmetric-run":
            known = known - {"--head", "--node-ip-address", "--port", "--block"}  # it refuses these
            assert {"--address", "--min-nodes"} <= options_of(ray_cli.commands[command])
            options = [option for option in options if option not in ("--address", "--min-nodes")]
        assert set(options) <= known, options
    heads = [options for _, options in starts if "--head" in options or name == "slurm.sbatch"]
    assert all("--dashboard-host" in options for options in heads) and heads
    assert set(re.findall(r"--dashboard-host=(\S+)", read(name))) == {"127.0.0.1"}
    assert "RAY_AUTH_MODE=token" in read(name)


# ---- shell scripts


SLURM_GIVES = {"SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_CPUS_PER_TASK"}
SBATCH = {"cpus-per-task", "exclusive", "gpus-per-node", "job-name", "mem", "nodes", "ntasks-per-node", "open-mode"}
SBATCH |= {"output", "requeue", "signal", "time"}


@pytest.mark.parametrize("name", ["local.sh", "slurm.sbatch"])
def test_scripts_parse_and_use_variables_that_somebody_sets(name):
    subprocess.run(["bash", "-n", CLUSTER / name], check=True)
    text = re.sub(r"(^|\s)#.*|'[^']*'", "", read(name))
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)(?!\w|:-|\[)", text))
    assigned = set(re.findall(r"\b([A-Z][A-Z_]+)=", text))
    assert used <= assigned | SLURM_GIVES | {"HOME", "PWD", "PATH"}, used
    assert {"FLP_RAY_STORAGE", "FLP_RAY_HUB", "RAY_AUTH_MODE"} <= assigned


def test_local_keeps_ray_from_taking_another_address_for_loopback():
    """Without the variable ray listens on all addresses, whatever --node-ip-address says."""
    [line] = re.findall(r"^export (RAY_ENABLE\S+=0)\b", read("local.sh"), re.M)
    assert "--node-ip-address=127.0.0.1" in read("local.sh")
    code = "from ray._private import services; print(services.resolve_ip_for_localhost('127.0.0.1'))"
    name, _, value = line.partition("=")
    argv = [sys.executable, "-c", code]
    found = subprocess.run(argv, env=os.environ | {name: value}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "127.0.0.1"


def test_local_can_be_executed():
    assert os.access(CLUSTER / "local.sh", os.X_OK)


def test_slurm_asks_for_what_sbatch_knows_and_goes_back_into_the_queue():
    options = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", read("slurm.sbatch"), re.M)
    assert len(options) == read("slurm.sbatch").count("\n#SBATCH")
    assert {name for name, _ in options} == SBATCH
    given = dict(options)
    assert given["ntasks-per-node"] == "1" and given["signal"].startswith("B:USR1@")
    text = read("slurm.sbatch")
    assert text.index("\n#SBATCH") < text.index("\nset -"), "sbatch reads no options after the first command"
    # Without it a driver starts a private cluster on one node, and the others stay idle.
    assert "export RAY_ADDRESS=" in text


def test_slurm_runs_the_study_on_all_nodes_and_is_requeued_by_its_signal(tmp_path):
    """The script itself, with stand-ins for the programs of Slurm, for Ray and for Python."""
    stand_ins = tmp_path / ".venv" / "bin"
    stand_ins.mkdir(parents=True)
    programs = {
        "scontrol": 'echo "scontrol $*" >> calls; [[ $1 == show ]] && printf "%s\\n" n1 n2 n3; true',
        "srun": 'echo "srun $*" >> calls; kill -USR1 $PPID; sleep 0.2; exit 7',
        "ray": 'echo "ray $*" >> calls',
    }
    for name, body in programs.items():
        (stand_ins / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (stand_ins / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "5", "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3"}
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "SLURM_CPUS_PER_TASK": "4", **slurm}
    command = ["bash", CLUSTER / "slurm.sbatch", "my study.yaml", "--study-dir", "d"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0, done
    calls = (tmp_path / "calls").read_text().splitlines()
    [run] = [call for call in calls if call.startswith("srun")]
    assert run.startswith("srun --nodes=3 --ntasks=3 --cpus-per-task=4 ray symmetric-run --address n1:6379 ")
    assert run.endswith("-- python jobs/run_study.py my study.yaml --study-dir d")
    assert calls[-1] == "scontrol requeue 5"
    refused = subprocess.run(command[:2], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert refused.returncode != 0 and "which study?" in refused.stderr


# ---- ray up


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_up_takes_the_file(name):
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(load(name), schema)
    validate_config(prepare_config(load(name)))
    wrong = load(name) | {"max_wokers": 8}
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("name", CLOUDS)
def test_ray_up_has_a_head_on_demand_and_workers_that_may_be_taken_away(name):
    config = load(name)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0, "nothing trains on the head"
    spot = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[config["provider"]["type"]]
    assert spot not in head["node_config"]
    for worker in types.values():
        assert worker["node_config"][spot] in (
            {"MarketType": "spot"},
            {
                "provisioningModel": "SPOT",
                "instanceTerminationAction": "DELETE",
                "onHostMaintenance": "TERMINATE",
                "automaticRestart": False,  # Compute Engine refuses spot machines with it
            },
        )
        # Nodes reach the bucket as themselves; Ray gives an identity to the head alone.
        identity = {"aws": "IamInstanceProfile", "gcp": "serviceAccounts"}[config["provider"]["type"]]
        assert worker["node_config"][identity] == head["node_config"][identity]
    assert sum(worker["max_workers"] for worker in types.values()) <= config["max_workers"]


@pytest.mark.parametrize("name", CLOUDS)
def test_containers_of_ray_up_get_token_storage_and_hub(name):
    config = load(name)
    options = config["docker"]["run_options"]
    given = dict(option.removeprefix("--env=").split("=", 1) for option in options if option.startswith("--env="))
    assert given["RAY_AUTH_MODE"] == "token"
    assert given["RAY_AUTH_TOKEN_PATH"] in config["file_mounts"]
    assert given["FLP_RAY_STORAGE"].startswith({"aws": "s3://", "gcp": "gs://"}[config["provider"]["type"]])
    assert f"--volume={given['FLP_RAY_HUB']}:{given['FLP_RAY_HUB']}" in options
    assert any(given["FLP_RAY_HUB"] in command for command in config["initialization_commands"])
    assert config["docker"]["worker_run_options"] == ["--gpus=all"]


# ---- KubeRay: the fields that its types (ray-operator/apis/ray/v1) and Kubernetes' core/v1 have, as far as used here


def fields(*required, **optional):
    known = {name: {} for name in required} | optional
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+([KMGT]i?)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
MATCH = fields(matchExpressions=many(fields("key", "operator", values=many({"type": "string"}))))
PREFERRED = fields("weight", preference=MATCH)
AFFINITY = fields(
    nodeAffinity=fields(
        requiredDuringSchedulingIgnoredDuringExecution=fields(nodeSelectorTerms=many(MATCH)),
        preferredDuringSchedulingIgnoredDuringExecution=many(PREFERRED),
    )
)
CONTAINER = fields(
    "name",
    "image",
    env=many(fields("name", value={"type": "string"})),
    ports=many(fields("containerPort", name={"type": "string", "maxLength": 15})),
    resources=fields(requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=many(fields("name", "mountPath")),
)
VOLUME = fields(
    "name",
    emptyDir=fields(medium={"const": "Memory"}, sizeLimit=QUANTITY),
    persistentVolumeClaim=fields("claimName"),
)
TOLERATION = fields("key", "operator", "effect")
POD = fields(
    containers=many(CONTAINER),
    volumes=many(VOLUME),
    affinity=AFFINITY,
    tolerations=many(TOLERATION),
    securityContext=fields(fsGroup=COUNT),
)
TEMPLATE = fields(spec=POD)
GROUP = fields(
    "groupName", replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, rayStartParams=TEXTS, template=TEMPLATE
)
RAY_CLUSTER = fields(
    rayVersion={"type": "string"},
    authOptions=fields(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=fields(version={"enum": ["v1", "v2"]}, idleTimeoutSeconds=COUNT),
    headGroupSpec=fields(rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=many(GROUP),
)
RAY_JOB = fields(
    entrypoint={"type": "string"},
    backoffLimit=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=RAY_CLUSTER,
)


def resource(kind, spec):
    return fields(apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=fields("name"), spec=spec)


def ray_cluster(name):
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def test_kuberay_takes_the_files():
    jsonschema.validate(load("kuberay-cluster.yaml"), resource("RayCluster", RAY_CLUSTER))
    jsonschema.validate(load("kuberay-job.yaml"), resource("RayJob", RAY_JOB))
    wrong = load("kuberay-cluster.yaml")
    wrong["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["enviroment"] = []
    with pytest.raises(jsonschema.ValidationError, match="enviroment"):
        jsonschema.validate(wrong, resource("RayCluster", RAY_CLUSTER))


@pytest.mark.parametrize("name", KUBERAY)
def test_pods_hold_together(name):
    spec = ray_cluster(name)
    [group] = spec["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert spec["authOptions"]["mode"] == "token" and spec["enableInTreeAutoscaling"]
    options = options_of(ray_cli.commands["start"])
    for part in (spec["headGroupSpec"], group):
        assert {f"--{name}" for name in part["rayStartParams"]} <= options
        pod = part["template"]["spec"]
        [container] = pod["containers"]
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert {"FLP_RAY_STORAGE", "FLP_RAY_HUB"} <= set(given)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert len(places) == len(volumes)
        assert places["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        claim = load("kuberay-storage.yaml")
        assert places[given["FLP_RAY_STORAGE"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert Path(given["FLP_RAY_HUB"]).is_relative_to(given["FLP_RAY_STORAGE"])
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "nothing trains on the head"
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) >= 1


@pytest.mark.parametrize("name", KUBERAY)
def test_the_head_keeps_off_the_spot_nodes_that_workers_prefer(name):
    spec = ray_cluster(name)
    head, [group] = spec["headGroupSpec"], spec["workerGroupSpecs"]
    affinity = head["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    avoided = {rule["key"]: rule["values"] for rule in term["matchExpressions"] if rule["operator"] == "NotIn"}
    pod = group["template"]["spec"]
    liked = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    rules = [rule for like in liked for rule in like["preference"]["matchExpressions"]]
    assert avoided == {rule["key"]: rule["values"] for rule in rules if rule["operator"] == "In"}
    tolerated = {toleration["key"] for toleration in pod["tolerations"]}
    assert {"nvidia.com/gpu", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= tolerated
    assert "tolerations" not in head["template"]["spec"]


def test_both_kuberay_files_start_the_same_cluster_but_for_the_address_of_the_dashboard():
    standing, of_job = (ray_cluster(name) for name in KUBERAY)
    assert standing["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "127.0.0.1"
    assert of_job["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "0.0.0.0"
    assert standing == of_job


def test_the_job_runs_a_study_that_is_in_the_image_and_can_be_suspended():
    job = load("kuberay-job.yaml")["spec"]
    [workdir] = re.findall(r"^WORKDIR (\S+)$", read("Dockerfile"), re.M)
    for path in job["entrypoint"].split()[1:]:
        assert (ROOT / Path(path).relative_to(workdir)).is_file()
    assert job["shutdownAfterJobFinishes"], "KubeRay suspends no other"


def test_names_in_kubectl_commands_are_those_of_the_files():
    guide = read("README.md")
    cluster = load("kuberay-cluster.yaml")["metadata"]["name"]
    assert f"kubectl get raycluster {cluster} " in guide
    assert f"kubectl get secret {cluster} " in guide, "KubeRay names the secret after the cluster"
    assert f"service/{cluster}-head-svc 8265:8265" in guide
    job = load("kuberay-job.yaml")["metadata"]["name"]
    assert f"kubectl patch rayjob {job} " in guide and f"kubectl patch rayjob {job} " in read("kuberay-job.yaml")


# ---- the image


def test_the_image_copies_what_is_there_and_what_the_build_is_sent():
    instructions = [line.split(maxsplit=1) for line in re.sub(r"\\\n", " ", read("Dockerfile")).splitlines()]
    instructions = [parts for parts in instructions if parts and not parts[0].startswith("#")]
    assert {name for name, *_ in instructions} <= {"ARG", "FROM", "USER", "RUN", "WORKDIR", "COPY", "ENV"}
    copied = [w for name, *rest in instructions if name == "COPY" for w in rest[0].split()[:-1] if w[:2] != "--"]
    assert copied and all((ROOT / source).exists() for source in copied)
    sent = {line[1:] for line in read("Dockerfile.dockerignore").splitlines() if line.startswith("!")}
    assert sent == set(copied)
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "flp_ray", "jobs"} == sent
    users = [rest[0] for name, *rest in instructions if name == "USER"]
    assert users[-1] == "ray", "containers do not run as root"
