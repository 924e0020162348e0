"""What the chart renders: settings that load, rights that are few, pods that are locked down."""

import argparse
import functools
import importlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import binaries
from modelops import settings
from modelops.__main__ import PROGRAMS
from modelops.controllers import kinds
from modelops.controllers.main import DEFAULT_CONFIG
from modelops.governance import admission, policies

CHART = Path(__file__).parents[2] / "charts" / "modelops"
GOLDEN = Path(__file__).parent / "rbac.yaml"
URL = "prometheus.url=http://prometheus.monitoring.svc:9090"
STAMPS = "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
RULES = ("ClusterRole", "Role")
CLUSTER_SCOPED = {
    "nodes",
    "namespaces",
    "gatewayclasses",
    "persistentvolumes",
    "modelnodes",
    "modelnodes/status",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
}

Manifest = dict[str, Any]


# --- vocabulary --------------------------------------------------------------------------------------


def helm(*args: str) -> subprocess.CompletedProcess[str]:
    program = binaries.ensure("helm") / "helm"
    return subprocess.run([program, *args], capture_output=True, text=True, check=False)


def template(*values: str, kinds: tuple[str, ...] = (STAMPS,)) -> subprocess.CompletedProcess[str]:
    named = [
        word
        for value in values
        for word in ("--set-json" if "=[" in value or "={" in value else "--set", value)
    ]
    known = [word for kind in kinds for word in ("--api-versions", kind)]
    return helm("template", "modelops", str(CHART), "--namespace", "modelops-system", *named, *known)


@functools.cache
def rendered(*values: str, kinds: tuple[str, ...] = (STAMPS,)) -> tuple[Manifest, ...]:
    """Return every object that the chart makes of *values*; Prometheus has an address."""
    done = template(URL, *values, kinds=kinds)
    assert done.returncode == 0, done.stderr
    return tuple(obj for obj in yaml.safe_load_all(done.stdout) if obj)


def one(objects: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    found = [obj for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: found {len(found)}"
    return found[0]


def names(objects: tuple[Manifest, ...], *kinds: str) -> list[str]:
    return [f"{obj['kind']}/{obj['metadata']['name']}" for obj in objects if obj["kind"] in kinds]


def refusal(*values: str, kinds: tuple[str, ...] = ()) -> str:
    done = template(*values, kinds=kinds)
    assert done.returncode != 0, "was rendered"
    return " ".join(done.stderr.split())


def rules(objects: tuple[Manifest, ...]) -> Iterator[tuple[str, Manifest]]:
    for obj in objects:
        if obj["kind"] in RULES:
            for rule in obj["rules"]:
                yield f"{obj['kind']}/{obj['metadata']['name']}", rule


def pods(objects: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Return the pod spec of every workload."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["spec"]["template"]["spec"]
        for obj in objects
        if obj["kind"] in ("Deployment", "DaemonSet", "Job")
    }


def config(objects: tuple[Manifest, ...], folder: Path) -> settings.Settings:
    """Return the settings as the operator would load them."""
    path = folder / "config.yaml"
    path.write_text(one(objects, "ConfigMap", "modelops")["data"]["config.yaml"])
    return settings.load(path, {"POD_NAME": "modelops-0", "POD_NAMESPACE": "modelops-system"})


# --- values ------------------------------------------------------------------------------------------


def test_the_chart_has_nothing_to_warn_of() -> None:
    done = helm("lint", "--strict", str(CHART), "--set", URL)
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = [
    pytest.param(
        (),
        "prometheus.url: needs the address of Prometheus, found none; add --set prometheus.url=",
        id="no address of Prometheus",
    ),
    pytest.param(("prometheus.url=prometheus:9090",), "does not match pattern", id="an address without http"),
    pytest.param((URL, "promtheus.url=x"), "additional properties 'promtheus'", id="an unknown value"),
    pytest.param(
        (URL, "gate.enabld=true"), "additional properties 'enabld'", id="an unknown value in a block"
    ),
    pytest.param(
        (URL, "environments.prod.approval=1"), "additional properties 'approval'", id="an unknown demand"
    ),
    pytest.param((URL, "environments.Prod.approvals=1"), "'Prod'", id="an environment that is no label"),
    pytest.param((URL, "replicaCount=two"), "got string, want integer", id="text where a number belongs"),
    pytest.param((URL, "image.digest=abc"), "does not match pattern", id="a digest that is none"),
    pytest.param((URL, "nodes.seconds=0"), "minimum: got 0, want 1", id="looks without a pause"),
    pytest.param((URL, "delivery.store=store"), "does not match pattern", id="a store without a whole path"),
    pytest.param(
        (URL, "leaderElection.leaseDuration=15"), "got number, want string", id="a duration without unit"
    ),
    pytest.param(
        (URL, "metrics.serviceMonitor.enabled=true"),
        "metrics.serviceMonitor.enabled: needs the kind ServiceMonitor",
        id="a ServiceMonitor where nobody knows the kind",
    ),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_the_chart_refuses(values: tuple[str, ...], words: str) -> None:
    assert words in refusal(*values)


def test_every_value_is_described_and_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(path: str, part: Manifest, value: Any) -> None:
        assert part.get("description"), f"{path}: has no description"
        properties = part.get("properties")
        if properties is None:
            return
        assert part["additionalProperties"] is False, f"{path}: takes anything"
        if isinstance(value, dict):
            assert set(value) <= set(properties), f"{path}: {set(value) - set(properties)} not in the schema"
        for name, inner in properties.items():
            check(f"{path}.{name}", inner, value.get(name) if isinstance(value, dict) else None)

    check("values", schema, values)
    unset = set(schema["properties"]) - set(values)
    assert unset == {"global"}, "every value has a default in values.yaml"


# --- settings ----------------------------------------------------------------------------------------


def test_the_defaults_load_as_settings(tmp_path: Path) -> None:
    found = config(rendered(), tmp_path)
    assert found.prometheus.url == "http://prometheus.monitoring.svc:9090"
    assert found.lease == settings.Lease()
    assert found.watch_namespaces == ()
    assert found.gateway == settings.Gateway()
    assert found.images.operator == "modelops:0.1.0"
    assert (found.identity, found.namespace) == ("modelops-0", "modelops-system")
    assert found.gate.stamping
    assert found.pod_monitor is None


def test_every_value_for_the_operator_reaches_its_settings(tmp_path: Path) -> None:
    digest = "sha256:" + "ab" * 32
    found = config(
        rendered(
            'watchNamespaces=["team-a"]',
            "leaderElection.leaseDuration=30s",
            "leaderElection.renewDeadline=20s",
            "leaderElection.retryPeriod=4s",
            "prometheus.timeout=1m",
            'gateway={"name":"edge","namespace":"gateways","sectionName":"https","domain":"ml.example.com"}',
            'sources={"allowedHosts":["hub.example.com"]}',
            'environments={"prod":{"approvals":2,"separationOfDuties":true,"formats":["safetensors"],'
            '"sources":{"allowedHosts":["hub.prod.example.com"]}}}',
            'engineImages={"vLLM":"registry.example.com/vllm:1"}',
            'engineCommands={"LlamaCpp":["/usr/bin/llama-server"]}',
            "image.repository=registry.example.com/modelops",
            f"image.digest={digest}",
            "image.pullPolicy=Always",
            'imagePullSecrets=[{"name":"registry"},{"name":"mirror"}]',
            "delivery.enabled=false",
            "delivery.store=/srv/models",
            "gate.stamping=false",
            'metrics.podMonitor={"enabled":true,"interval":"5s","labels":{"release":"prometheus"}}',
        ),
        tmp_path,
    )
    wanted = settings.Settings.model_validate(
        {
            "identity": "modelops-0",
            "namespace": "modelops-system",
            "watchNamespaces": ["team-a"],
            "lease": {"name": "modelops", "duration": "30s", "renew": "20s", "retry": "4s"},
            "prometheus": {"url": "http://prometheus.monitoring.svc:9090", "timeout": "1m"},
            "gateway": {
                "name": "edge",
                "namespace": "gateways",
                "sectionName": "https",
                "domain": "ml.example.com",
            },
            "images": {
                "operator": f"registry.example.com/modelops@{digest}",
                "engineImages": {"vLLM": "registry.example.com/vllm:1"},
                "engineCommands": {"LlamaCpp": ["/usr/bin/llama-server"]},
            },
            "imagePullPolicy": "Always",
            "imagePullSecrets": ["registry", "mirror"],
            "sources": {"allowedHosts": ["hub.example.com"]},
            "environments": {
                "prod": {
                    "approvals": 2,
                    "separationOfDuties": True,
                    "formats": ["safetensors"],
                    "sources": {"allowedHosts": ["hub.prod.example.com"]},
                }
            },
            "delivery": {"enabled": False, "store": "/srv/models"},
            "podMonitor": {"interval": "5s", "labels": {"release": "prometheus"}},
            "gate": {"stamping": False, "hmacKeyFile": "/var/run/modelops/gate/keys"},
        }
    )
    assert found == wanted


def test_a_server_that_cannot_stamp_is_told_to_the_operator(tmp_path: Path) -> None:
    objects = rendered(kinds=())
    assert not config(objects, tmp_path).gate.stamping
    assert names(objects, "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding") == []


def test_a_change_of_settings_replaces_the_operators_pods() -> None:
    def checksum(*values: str) -> str:
        made = one(rendered(*values), "Deployment", "modelops")["spec"]["template"]["metadata"]
        return str(made["annotations"]["checksum/config"])

    assert checksum() == checksum("replicaCount=3")
    assert checksum() != checksum("prometheus.timeout=20s")


def test_the_operator_finds_its_files_where_they_are_mounted(tmp_path: Path) -> None:
    objects = rendered()
    container = pods(objects)["Deployment/modelops"]["containers"][0]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {"/etc/modelops": "config", "/var/run/modelops/gate": "gate", "/tmp": "tmp"}
    assert DEFAULT_CONFIG in container["args"]
    key = config(objects, tmp_path).gate.hmac_key_file
    assert key is not None
    assert key.startswith("/var/run/modelops/gate/")
    assert Path(key).name in one(objects, "Secret", "modelops-gate")["data"]


# --- the approval gate -------------------------------------------------------------------------------


@pytest.mark.parametrize("stamping", [True, False])
def test_the_chart_installs_the_gate_as_the_operator_expects_it(stamping: bool) -> None:
    objects = rendered(f"gate.stamping={str(stamping).lower()}")
    wanted = {
        f"{p['kind']}/{p['metadata']['name']}": policies.spec_digest(p)
        for p in policies.required(stamping=stamping)
    }
    found = {
        f"{obj['kind']}/{obj['metadata']['name']}": policies.spec_digest(obj)
        for obj in objects
        if obj["apiVersion"] == admission.ADMISSION
    }
    assert found == wanted


def test_the_gates_key_can_be_somebody_elses() -> None:
    objects = rendered("gate.existingSecret=our-key")
    assert "Secret/modelops-gate" not in names(objects, "Secret")
    volumes = {volume["name"]: volume for volume in pods(objects)["Deployment/modelops"]["volumes"]}
    assert volumes["gate"]["secret"]["secretName"] == "our-key"


def test_the_definitions_and_the_key_stay_after_an_uninstall_unless_told_otherwise() -> None:
    def kept(objects: tuple[Manifest, ...]) -> set[str]:
        policy = "helm.sh/resource-policy"
        return {obj["kind"] for obj in objects if policy in (obj["metadata"].get("annotations") or {})}

    assert kept(rendered()) == {"CustomResourceDefinition", "Secret"}
    assert kept(rendered("crds.keep=false")) == set()
    assert len(names(rendered(), "CustomResourceDefinition")) == 6
    assert names(rendered("crds.enabled=false"), "CustomResourceDefinition") == []


# --- rights ------------------------------------------------------------------------------------------


def test_the_rights_are_the_golden_ones(update_golden: bool) -> None:
    found: dict[str, list[Manifest]] = {}
    for role, rule in rules(rendered()):
        found.setdefault(role, []).append(rule)
    text = yaml.safe_dump(found, sort_keys=True, width=110)
    if update_golden:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("values", [(), ('watchNamespaces=["team-a"]',)], ids=["cluster", "namespaces"])
def test_the_operator_may_list_and_watch_every_kind_that_it_watches(values: tuple[str, ...]) -> None:
    names = ("modelops-operator", "modelops-cluster-reader", "modelops-volumes")
    held = {
        (group, resource)
        for role, rule in rules(rendered(*values))
        if role.partition("/")[2] in names and {"list", "watch"} <= set(rule["verbs"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    needed = {
        (one.resource.api_version.rpartition("/")[0], one.resource.plural)
        for one in (*kinds._own(), *kinds._children(), *kinds._cluster())
        if not (values and one.is_named)
    }
    assert needed - held == set()


@pytest.mark.parametrize(
    "values", [(), ('watchNamespaces=["team-a","team-b"]',)], ids=["cluster", "namespaces"]
)
def test_no_right_is_a_wildcard_or_opens_the_door_to_others(values: tuple[str, ...]) -> None:
    forbidden = {"*", "escalate", "bind", "impersonate", "deletecollection"}
    for role, rule in rules(rendered(*values)):
        every = {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
        assert not every & forbidden, f"{role}: {rule}"
        assert not set(rule["resources"]) & {
            "pods/exec",
            "pods/attach",
            "serviceaccounts/token",
            "pods/log",
        }, role


def test_who_may_touch_secrets_and_who_may_approve() -> None:
    secrets = {(role, *rule["verbs"]) for role, rule in rules(rendered()) if "secrets" in rule["resources"]}
    assert secrets == {("ClusterRole/modelops-delivery", "get")}
    decide = {"approve", "revoke", "govern", "purge"}
    deciders = {role for role, rule in rules(rendered()) if decide & set(rule["verbs"])}
    assert deciders == {"ClusterRole/modelops-approver", "ClusterRole/modelops-governor"}
    bound = {
        f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"
        for obj in rendered()
        if obj["kind"] in ("ClusterRoleBinding", "RoleBinding")
    }
    assert not bound & deciders, "deciding is for people, whom an administrator names"


def test_with_watched_namespaces_rights_in_namespaces_are_roles_in_each() -> None:
    objects = rendered('watchNamespaces=["team-a","team-b"]', "rbac.userRoles=false")
    for role, rule in rules(objects):
        if role.startswith("ClusterRole/"):
            assert set(rule["resources"]) <= CLUSTER_SCOPED, f"{role}: {rule}"

    def granted(kind: str, name: str, *values: str) -> list[Manifest]:
        """Return the rules for namespaced objects of the roles of that name, of one namespace each."""
        found = [obj for obj in rendered(*values) if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
        return [r for r in found[0]["rules"] if not set(r["resources"]) <= CLUSTER_SCOPED]

    for name in ("modelops-operator", "modelops-delivery"):
        places = [
            obj["metadata"]["namespace"]
            for obj in objects
            if obj["kind"] == "RoleBinding" and obj["metadata"]["name"] == name
        ]
        assert places == ["team-a", "team-b"]
        narrow = granted("Role", name, 'watchNamespaces=["team-a","team-b"]', "rbac.userRoles=false")
        assert narrow == granted("ClusterRole", name), "as much as cluster-wide, and no more"


def bound_to(account: str, objects: tuple[Manifest, ...]) -> set[str]:
    """Return the roles that are bound to an account."""
    return {
        f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"
        for obj in objects
        if obj["kind"].endswith("RoleBinding") and account in {who["name"] for who in obj["subjects"]}
    }


def test_with_watched_namespaces_the_operator_needs_no_cluster_role_that_is_not_switched_off_alone() -> None:
    values = ('watchNamespaces=["team-a"]',)
    roles = {"Role/modelops-operator", "Role/modelops-leader"}
    reader, volumes = "ClusterRole/modelops-cluster-reader", "ClusterRole/modelops-volumes"
    assert bound_to("modelops", rendered(*values)) == {*roles, reader, volumes}
    assert bound_to("modelops", rendered(*values, "rbac.clusterReader=false")) == {*roles, volumes}
    assert bound_to("modelops", rendered(*values, "rbac.volumes=false")) == {*roles, reader}
    read = [rule for role, rule in rules(rendered(*values)) if role == reader]
    assert {verb for rule in read for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_a_role_in_a_namespace_lets_its_namespace_be_read_and_no_other() -> None:
    objects = rendered('watchNamespaces=["team-a"]', "rbac.userRoles=false")
    found = [(role, rule["verbs"]) for role, rule in rules(objects) if "namespaces" in rule["resources"]]
    assert found == [("Role/modelops-operator", ["get"])]


def test_rights_and_accounts_can_be_somebody_elses() -> None:
    objects = rendered("rbac.create=false", "rbac.userRoles=false", "cleanup.enabled=false")
    assert names(objects, *RULES, "RoleBinding", "ClusterRoleBinding") == []
    foreign = rendered("serviceAccount.create=false", "serviceAccount.name=ours")
    assert pods(foreign)["Deployment/modelops"]["serviceAccountName"] == "ours"
    assert "ServiceAccount/ours" not in names(foreign, "ServiceAccount")


def test_every_binding_names_a_role_and_an_account_of_the_chart() -> None:
    objects = rendered('watchNamespaces=["team-a"]')
    roles = {(obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace")) for obj in objects}
    for obj in objects:
        if obj["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            ref, place = obj["roleRef"], obj["metadata"].get("namespace")
            assert (ref["kind"], ref["name"], place if ref["kind"] == "Role" else None) in roles, obj
            for who in obj["subjects"]:
                assert (who["kind"], who["name"], who["namespace"]) in roles, obj


# --- pods --------------------------------------------------------------------------------------------


def is_locked(container: Manifest) -> bool:
    held = container["securityContext"]
    return (
        held["allowPrivilegeEscalation"] is False
        and held["readOnlyRootFilesystem"] is True
        and held["capabilities"] == {"drop": ["ALL"]}
    )


@pytest.mark.parametrize(
    "workload", ["Deployment/modelops", "DaemonSet/modelops-nodes", "Job/modelops-cleanup"]
)
def test_a_pod_is_admitted_by_the_level_restricted(workload: str) -> None:
    pod = pods(rendered())[workload]
    held = pod["securityContext"]
    assert (held["runAsNonRoot"], held["runAsUser"], held["seccompProfile"]) == (
        True,
        10001,
        {"type": "RuntimeDefault"},
    )
    assert all(is_locked(container) for container in pod["containers"])
    allowed = {"configMap", "secret", "emptyDir"}
    assert {key for volume in pod["volumes"] for key in volume if key != "name"} <= allowed
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_the_agent_differs_from_a_restricted_pod_in_its_user_and_its_store_only() -> None:
    pod = pods(rendered())["DaemonSet/modelops-delivery"]
    assert pod["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert all(is_locked(container) for container in pod["containers"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    paths = [volume["hostPath"] for volume in pod["volumes"] if "hostPath" in volume]
    assert paths == [{"path": "/var/lib/modelops/store", "type": "DirectoryOrCreate"}]


def test_the_agent_works_where_the_settings_say_and_on_every_node(tmp_path: Path) -> None:
    objects = rendered(
        "delivery.store=/srv/models",
        'sources={"allowedHosts":["hub.example.com"]}',
        'environments={"prod":{"sources":{"allowedHosts":["hub.prod.example.com"]}}}',
    )
    pod = pods(objects)["DaemonSet/modelops-delivery"]
    container = pod["containers"][0]
    store = config(objects, tmp_path).delivery.store
    assert container["args"][container["args"].index("--store") + 1] == store
    assert {"name": "store", "mountPath": store} in container["volumeMounts"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert given["MODELOPS_ALLOWED_HOSTS"] == "hub.example.com,hub.prod.example.com"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert names(rendered("delivery.enabled=false"), "DaemonSet") == ["DaemonSet/modelops-nodes"]


def test_the_agent_that_reads_gpus_runs_where_they_are_and_takes_none() -> None:
    pod = pods(rendered())["DaemonSet/modelops-nodes"]
    container = pod["containers"][0]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert "runtimeClassName" not in pod, "no cluster was asked, and a class that is not there stops the pod"
    assert not [key for kind in container["resources"].values() for key in kind if "gpu" in key]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (given["NVIDIA_VISIBLE_DEVICES"], given["NVIDIA_DRIVER_CAPABILITIES"]) == ("all", "utility")
    assert names(rendered("nodes.enabled=false"), "DaemonSet") == ["DaemonSet/modelops-delivery"]


def test_the_agent_that_reads_gpus_gets_the_runtime_class_that_was_named() -> None:
    pod = pods(rendered("nodes.runtimeClassName=nvidia-cdi"))["DaemonSet/modelops-nodes"]
    assert pod["runtimeClassName"] == "nvidia-cdi"


def test_the_agent_that_reads_gpus_may_touch_model_nodes_alone() -> None:
    found = [rule for role, rule in rules(rendered()) if role == "ClusterRole/modelops-nodes"]
    touched = {resource for rule in found for resource in rule["resources"]}
    assert touched == {"modelnodes", "modelnodes/status"}
    assert {verb for rule in found for verb in rule["verbs"]} == {"get", "create", "patch", "operate"}


def test_the_programs_understand_their_arguments() -> None:
    for name, pod in pods(rendered()).items():
        if name.startswith("DaemonSet/"):
            args = [arg.replace("$(NODE_NAME)", "n1") for arg in pod["containers"][0]["args"]]
            parser = argparse.ArgumentParser()
            module = importlib.import_module(PROGRAMS[args[0]][0])
            module.add(parser.add_subparsers(dest="program"))
            assert parser.parse_args(args).node == "n1"


def test_a_rollout_of_the_operator_never_has_fewer_replicas() -> None:
    spec = one(rendered(), "Deployment", "modelops")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    budget = one(rendered(), "PodDisruptionBudget", "modelops")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == spec["selector"]


def test_selectors_find_the_pods_of_one_workload_only() -> None:
    made = [obj for obj in rendered() if obj["kind"] in ("Deployment", "DaemonSet")]
    for obj in made:
        chosen = obj["spec"]["selector"]["matchLabels"].items()
        matching = [
            other["metadata"]["name"]
            for other in made
            if chosen <= other["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert matching == [obj["metadata"]["name"]]
    service = one(rendered(), "Service", "modelops-metrics")["spec"]["selector"]
    assert service == one(rendered(), "Deployment", "modelops")["spec"]["selector"]["matchLabels"]


def test_no_object_of_the_chart_looks_like_one_that_the_operator_made() -> None:
    for obj in rendered():
        if obj["kind"] != "CustomResourceDefinition":
            assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm", obj["metadata"][
                "name"
            ]


def test_users_annotations_win_over_the_charts() -> None:
    made = one(rendered("podAnnotations.prometheus\\.io/scrape=no"), "Deployment", "modelops")
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/port"]) == ("no", "8080")


# --- what is optional --------------------------------------------------------------------------------


def test_optional_objects_come_when_asked_for() -> None:
    monitoring = tuple(f"monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PrometheusRule"))
    more = rendered(
        "networkPolicy.enabled=true",
        "metrics.serviceMonitor.enabled=true",
        "metrics.alerts.enabled=true",
        'extraObjects=[{"apiVersion":"v1","kind":"ConfigMap","metadata":'
        '{"name":"{{ .Release.Name }}-extra"}}]',
        "podDisruptionBudget.enabled=false",
        "cleanup.enabled=false",
        kinds=(STAMPS, *monitoring),
    )
    default = {(obj["kind"], obj["metadata"]["name"]) for obj in rendered()}
    asked = {(obj["kind"], obj["metadata"]["name"]) for obj in more}
    assert asked - default == {
        ("NetworkPolicy", "modelops"),
        ("NetworkPolicy", "modelops-delivery"),
        ("NetworkPolicy", "modelops-nodes"),
        ("ServiceMonitor", "modelops"),
        ("PodMonitor", "modelops-delivery"),
        ("PodMonitor", "modelops-nodes"),
        *(("PrometheusRule", f"modelops-{name}") for name in ("operator", "governance", "services", "nodes")),
        ("ConfigMap", "modelops-extra"),
    }
    gone = {name for _, name in default - asked}
    assert gone == {"modelops", "modelops-cleanup"}
    for made in more:
        if made["kind"] in ("Deployment", "DaemonSet"):
            notes = made["spec"]["template"]["metadata"].get("annotations") or {}
            assert "prometheus.io/scrape" not in notes, "else it is scraped twice"


def test_a_monitor_finds_the_pods_and_the_port_of_its_program() -> None:
    objects = rendered(
        "metrics.serviceMonitor.enabled=true", kinds=(STAMPS, "monitoring.coreos.com/v1/ServiceMonitor")
    )
    for monitor in (obj for obj in objects if obj["kind"] == "PodMonitor"):
        daemon = one(objects, "DaemonSet", monitor["metadata"]["name"])["spec"]
        assert monitor["spec"]["selector"] == daemon["selector"]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        ports = {port["name"] for port in daemon["template"]["spec"]["containers"][0]["ports"]}
        assert endpoint["port"] in ports


def test_the_charts_alerts_are_the_files_word_for_word() -> None:
    objects = rendered(
        "metrics.alerts.enabled=true", kinds=(STAMPS, "monitoring.coreos.com/v1/PrometheusRule")
    )
    made = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "PrometheusRule"}
    files = (Path(__file__).parents[2] / "config" / "alerts").glob("*.yaml")
    assert made == {f"modelops-{path.stem}": yaml.safe_load(path.read_text())["spec"] for path in files}


def test_alerts_are_refused_where_nobody_would_read_them() -> None:
    done = template(URL, "metrics.alerts.enabled=true")
    assert done.returncode != 0
    assert "metrics.alerts.enabled: needs the kind PrometheusRule" in done.stderr


def test_what_cleans_up_runs_after_the_uninstall_and_leaves_nothing_of_its_own() -> None:
    hooks = [obj for obj in rendered() if "helm.sh/hook" in (obj["metadata"].get("annotations") or {})]
    assert {obj["metadata"]["name"] for obj in hooks} == {"modelops-cleanup"}
    for obj in hooks:
        notes = obj["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "post-delete"
        assert "hook-succeeded" in notes["helm.sh/hook-delete-policy"]
    weights = {obj["kind"]: int(obj["metadata"]["annotations"]["helm.sh/hook-weight"]) for obj in hooks}
    assert all(weights[kind] < weights["Job"] for kind in weights if kind != "Job")


def test_the_notes_tell_the_next_command() -> None:
    done = helm(
        *("install", "modelops", str(CHART), "--dry-run=client", "--namespace", "modelops-system"),
        *("--set", URL),
    )
    notes = done.stdout.partition("NOTES:")[2]
    assert "kubectl rollout status -n modelops-system deployment/modelops" in notes, done.stderr
    assert "approvers spec.approver.username" in notes, "nobody is known to stamp where no server was asked"
